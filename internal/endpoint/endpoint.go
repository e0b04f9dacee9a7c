// Package endpoint parses the ENDPOINT arguments of the command line, and creates what
// connects to an endpoint and signs tokens for it.
package endpoint

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/portforward"
	"github.com/iamproxy/iamproxy/proxy/upstream"
	"github.com/iamproxy/iamproxy/tls"
)

const defaultPort = "5432"

// Endpoint is a database and its settings.
type Endpoint struct {
	Host, Port string    // for which tokens are signed and, the host, certificates verified
	Name       auth.Name // parsed from Host
	Listen     string    // the key listen; empty if not given
	User       string
	Database   string
	Region     string
	Signer     Signer
	Via        string           // HOST:PORT to dial, or the name of Tunnel; empty with SOCKS
	SOCKS      *upstream.SOCKS5 // nil unless via names a SOCKS proxy
	Tunnel     *Tunnel          // nil unless via starts a port forward
	Target     string           // writer, any, or empty
	Pool       string           // the number of idle connections to keep; empty means none
	// SSLNegotiation is how TLS with the database begins, as in libpq: postgres, direct, or empty.
	SSLNegotiation string
}

// Signer names the credentials that sign tokens.
type Signer struct {
	Profile    string
	AssumeRole string // ARNs, separated by commas
	ExternalID string
}

// Address returns the endpoint as host:port.
func (e Endpoint) Address() string { return net.JoinHostPort(e.Host, e.Port) }

// NeedsWriter reports whether sessions require an instance that accepts writes.
func (e Endpoint) NeedsWriter() bool {
	isWriterName := e.Name.Kind == auth.Cluster || e.Name.Kind == auth.Global
	return e.Target == "writer" || e.Target == "" && isWriterName
}

// PoolSize returns the number of idle connections to keep, or -1 if Pool is not a number.
func (e Endpoint) PoolSize() int {
	n, err := strconv.Atoi(cmp.Or(e.Pool, "0"))
	if err != nil {
		return -1
	}
	return n
}

// ViaName returns what is dialed instead of the endpoint, without the password of a proxy. It
// is empty if the endpoint itself is dialed.
func (e Endpoint) ViaName() string {
	if e.SOCKS != nil {
		return e.SOCKS.String()
	}
	return e.Via
}

// ViaFlag returns the value of --via for the same endpoint. Where that could contain a
// password, a placeholder takes its place.
func (e Endpoint) ViaFlag() string {
	if e.Tunnel != nil && e.Tunnel.target == "" {
		return execPrefix + "COMMAND"
	}
	return e.ViaName()
}

// Dialer returns what connects to the endpoint, through forward unless that is nil.
func (e Endpoint) Dialer(forward *portforward.Forward, roots *x509.CertPool) *upstream.Dialer {
	d := &upstream.Dialer{
		Endpoint:  e.Address(),
		Via:       e.Via,
		SOCKS:     e.SOCKS,
		TLS:       tls.Upstream(e.Host, roots),
		DirectTLS: e.SSLNegotiation == "direct",
	}
	if forward != nil {
		d.DialContext, d.TunnelOutput = forward.Dial, forward.LastOutput
	}
	return d
}

// Tokens returns a source of tokens for the endpoint.
func (e Endpoint) Tokens(identity *auth.Identity) *auth.Tokens {
	return &auth.Tokens{Endpoint: e.Address(), Region: e.Region, Kind: e.Name.Kind, Identity: identity}
}

// keys returns the fields that can be set after the "?" of an endpoint.
func (e *Endpoint) keys() map[string]*string {
	return map[string]*string{
		"listen":         &e.Listen,
		"user":           &e.User,
		"database":       &e.Database,
		"region":         &e.Region,
		"profile":        &e.Signer.Profile,
		"assume-role":    &e.Signer.AssumeRole,
		"external-id":    &e.Signer.ExternalID,
		"via":            &e.Via,
		"target":         &e.Target,
		"pool":           &e.Pool,
		"sslnegotiation": &e.SSLNegotiation,
	}
}

// Keys lists the keys for messages.
const Keys = "listen, user, database, region, profile, assume-role, external-id, via, target, pool and sslnegotiation"

// ParseAll parses words, each of which contains endpoints separated by commas. See Parse.
func ParseAll(ctx context.Context, words []string, flags Endpoint) (endpoints []Endpoint, err error) {
	for _, word := range words {
		afterCommand := false // an exec: command, which may contain a comma
		for text := range strings.SplitSeq(word, ",") {
			if text = strings.TrimSpace(text); text == "" {
				continue
			}
			e, err := Parse(ctx, text, flags)
			switch {
			case err != nil && afterCommand:
				return nil, errors.New("what stands behind a comma after exec: is no endpoint (not shown, since there may be a password in it); a comma of the command is written %2C")
			case err != nil:
				return nil, err
			}
			afterCommand = afterCommand || hasCommand(text)
			endpoints = append(endpoints, e)
		}
	}
	return endpoints, nil
}

// Parse parses HOST[:PORT][?key=value&...], and takes what is missing from flags. It resolves
// DNS names only to improve an error message.
func Parse(ctx context.Context, text string, flags Endpoint) (Endpoint, error) {
	e, err := parse(text)
	if err != nil {
		return Endpoint{}, err
	}
	fallback := flags.keys()
	for key, value := range e.keys() {
		if key != "listen" {
			*value = cmp.Or(*value, *fallback[key])
		}
	}
	if err := e.parseVia(); err != nil {
		return Endpoint{}, err
	}
	e.Region = cmp.Or(e.Region, e.Name.Region)
	if e.Region == "" {
		return Endpoint{}, regionError(ctx, e)
	}
	if err := e.validate(); err != nil {
		return Endpoint{}, err
	}
	return e, nil
}

func parse(text string) (Endpoint, error) {
	name, query, _ := strings.Cut(text, "?")
	if !strings.ContainsAny(text, ".:?") { // a misspelt command would be served as a database
		return Endpoint{}, fmt.Errorf("%s is neither a command nor an endpoint, which is the name that AWS gave the database", quote(text))
	}
	host, port, err := splitHostPort(name, defaultPort)
	if err != nil {
		return Endpoint{}, fmt.Errorf("endpoint %s: %w", quote(name), err)
	}
	// AWS signs and certifies lower-case names without the final dot.
	e := Endpoint{Host: strings.ToLower(strings.TrimSuffix(host, ".")), Port: port}
	e.Name = auth.ParseName(e.Host)
	values, err := url.ParseQuery(query)
	if err != nil { // the error quotes a part of the query
		return Endpoint{}, fmt.Errorf("endpoint %q: behind the ? it is not percent-encoded as in a URL: %s", name, quotePart(query, err.Error()))
	}
	keys := e.keys()
	for key, given := range values {
		field := keys[key]
		switch {
		case field == nil:
			return Endpoint{}, fmt.Errorf("endpoint %q: unknown key %s; the keys are %s", name, quotePart(query, key), Keys)
		case len(given) > 1:
			return Endpoint{}, fmt.Errorf("endpoint %q: %s is given %d times", name, key, len(given))
		case given[0] == "":
			return Endpoint{}, fmt.Errorf("endpoint %q: %s has no value", name, key)
		}
		*field = given[0]
	}
	return e, nil
}

func (e Endpoint) validate() error {
	switch {
	case !auth.IsRegion(e.Region):
		return fmt.Errorf("region %q: not of the form of a region's name, as eu-west-1", e.Region)
	case !slices.Contains([]string{"", "postgres", "direct"}, e.SSLNegotiation):
		return fmt.Errorf("sslnegotiation %q: neither postgres nor direct", e.SSLNegotiation)
	case !slices.Contains([]string{"", "writer", "any"}, e.Target):
		return fmt.Errorf("target %q: neither writer nor any", e.Target)
	case e.PoolSize() < 0:
		return fmt.Errorf("pool %q: must be a number of connections, or 0 to keep none", e.Pool)
	case e.Signer.ExternalID != "" && e.Signer.AssumeRole == "":
		return errors.New("external-id is of no use without assume-role; a profile has an external_id of its own")
	}
	return nil
}

// aliasTimeout bounds the DNS lookup of regionError.
const aliasTimeout = 3 * time.Second

// regionError returns the error for a host that is not a name of AWS. If the host is a CNAME of
// one, the message contains the endpoint to use instead. It is not used automatically: the
// owner of a CNAME must not control what is signed and verified.
func regionError(ctx context.Context, e Endpoint) error {
	if e.Name.Kind != auth.Unknown {
		return e.Name.NeedsRegion(e.Host)
	}
	ctx, cancel := context.WithTimeout(ctx, aliasTimeout)
	defer cancel()
	database := auth.Alias(ctx, e.Host, nil)
	if database == "" {
		return e.Name.NeedsRegion(e.Host)
	}
	if e.Tunnel != nil {
		return fmt.Errorf("%s is not a name that AWS gives a database, but leads to one (CNAME); use that with the same --via: %s",
			e.Host, net.JoinHostPort(database, e.Port))
	}
	return fmt.Errorf("%s is not a name that AWS gives a database, but leads to one (CNAME); use that and this one with it: '%s?via=%s'",
		e.Host, net.JoinHostPort(database, e.Port), cmp.Or(e.ViaName(), e.Address()))
}

// parseVia parses HOST:PORT, socks5://[user:password@]HOST:PORT, ssm://TARGET and exec:COMMAND.
func (e *Endpoint) parseVia() (err error) {
	if e.Via == "" {
		return nil
	}
	if e.Tunnel, err = parseTunnel(e.Via); err != nil {
		return err
	}
	if e.Tunnel != nil {
		e.Via = e.Tunnel.String()
		return nil
	}
	if strings.Contains(e.Via, "://") {
		e.SOCKS, err = parseSOCKS(e.Via)
		e.Via = ""
		return err
	}
	host, port, err := splitHostPort(e.Via, defaultPort)
	if err != nil {
		return fmt.Errorf("via %s: %w", quote(e.Via), err)
	}
	e.Via = net.JoinHostPort(host, port)
	return nil
}

func parseSOCKS(via string) (*upstream.SOCKS5, error) {
	address, err := url.Parse(via)
	if err != nil { // the text may be the first half of a URL with a comma in its password
		return nil, errors.New("via: not socks5://[user:password@]HOST:PORT, percent-encoded as in a URL")
	}
	host, port, err := splitHostPort(address.Host, "1080")
	switch {
	case address.Scheme != "socks5" && address.Scheme != "socks5h" || strings.Trim(address.Path, "/") != "" || strings.ContainsAny(via, "?#"):
		return nil, fmt.Errorf("via %s: neither HOST:PORT nor socks5://[user:password@]HOST:PORT, percent-encoded as in a URL, nor ssm://TARGET or exec:COMMAND", quote(via))
	case err != nil:
		return nil, fmt.Errorf("via %s: not socks5://[user:password@]HOST:PORT, percent-encoded as in a URL", quote(via))
	}
	password, _ := address.User.Password()
	return &upstream.SOCKS5{Address: net.JoinHostPort(host, port), User: address.User.Username(), Password: password}, nil
}
