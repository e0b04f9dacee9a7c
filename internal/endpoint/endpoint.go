// Package endpoint parses the ENDPOINT arguments of the command line, and creates what
// connects to an endpoint and signs tokens for it.
package endpoint

import (
	"cmp"
	"context"
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
	"github.com/iamproxy/iamproxy/internal/text"
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
	if e.Tunnel != nil && e.Tunnel.target == nil {
		return execPrefix + "COMMAND"
	}
	return e.ViaName()
}

// Dialer returns what connects to the endpoint, through forward unless that is nil.
func (e Endpoint) Dialer(forward Forward, roots tls.Roots) *upstream.Dialer {
	region := e.Region
	if e.Name.Kind == auth.RDSProxy || e.Name.Kind == auth.DSQL {
		region = "" // public roots issue their certificates
	}
	first, all := roots.Of(region)
	d := &upstream.Dialer{
		Endpoint:  e.Address(),
		Via:       e.Via,
		SOCKS:     e.SOCKS,
		TLS:       tls.Upstream(e.Host, first),
		AllRoots:  all,
		DirectTLS: e.SSLNegotiation == "direct",
		RDSProxy:  e.Name.Kind == auth.RDSProxy,
	}
	if forward != nil {
		d.DialContext = forward.Dial
	}
	if program, ok := forward.(*portforward.Forward); ok {
		d.TunnelOutput = program.LastOutput
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
		if err := checkShape(word); err != nil {
			return nil, err
		}
		afterCommand := false // an exec: command, which may contain a comma
		for part := range strings.SplitSeq(word, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			e, err := Parse(ctx, part, flags)
			switch {
			case err != nil && afterCommand:
				return nil, errors.New("ENDPOINT: the text after a comma in exec: is not an endpoint (not shown); write a comma of the command as %2C")
			case err != nil:
				return nil, err
			}
			afterCommand = afterCommand || text.HasCommand(part)
			endpoints = append(endpoints, e)
		}
	}
	return endpoints, nil
}

// checkShape returns an error if a word with endpoints is evidently something else, such as a
// whole secret.
func checkShape(word string) error {
	if shape := text.ShapeOf(word); shape != "" && shape != text.Query {
		return fmt.Errorf("ENDPOINT is %s: give only %s", shape, wanted)
	}
	return nil
}

// wanted describes what an ENDPOINT has to be, after "give only".
const wanted = "its HOST[:PORT]; user and database stay in the client, or go into --user and --database"

// Parse parses HOST[:PORT][?key=value&...], and takes what is missing from flags. It resolves
// DNS names only to improve an error message.
func Parse(ctx context.Context, word string, flags Endpoint) (Endpoint, error) {
	if err := checkShape(word); err != nil {
		return Endpoint{}, err
	}
	e, err := parse(word)
	if err != nil {
		return Endpoint{}, err
	}
	given := e
	fallback := flags.keys()
	for key, value := range e.keys() {
		if key != "listen" {
			*value = cmp.Or(*value, *fallback[key])
		}
	}
	if err := e.parseVia(); err != nil {
		if given.Via == "" {
			err = fmt.Errorf("--%w", err) // the error begins with the key
		}
		return Endpoint{}, err
	}
	e.Region = cmp.Or(e.Region, e.Name.Region)
	if e.Region == "" {
		return Endpoint{}, regionError(ctx, e)
	}
	if err := e.validate(given.settingName); err != nil {
		return Endpoint{}, err
	}
	return e, nil
}

func parse(word string) (Endpoint, error) {
	name, query, _ := strings.Cut(word, "?")
	quoted := text.Host.Quote(name)
	switch {
	case !strings.ContainsAny(word, ".:?/"): // an identifier, or a misspelled command
		return Endpoint{}, fmt.Errorf("ENDPOINT %s: not a host name such as mydb.cluster-....rds.amazonaws.com", text.Plain.Quote(name))
	case strings.Contains(name, "/"):
		return Endpoint{}, fmt.Errorf("ENDPOINT has a path: give only %s", wanted)
	}
	host, port, err := splitHostPort(name, defaultPort)
	if err != nil {
		return Endpoint{}, fmt.Errorf("ENDPOINT %s: %w", quoted, err)
	}
	// AWS signs and certifies lower-case names without the final dot.
	e := Endpoint{Host: strings.ToLower(strings.TrimSuffix(host, ".")), Port: port}
	e.Name = auth.ParseName(e.Host)
	values, err := url.ParseQuery(query)
	if err != nil { // the error quotes a part of the query
		return Endpoint{}, fmt.Errorf("ENDPOINT %s: the part after the ? is not percent-encoded as in a URL", quoted)
	}
	keys := e.keys()
	for key, given := range values {
		field := keys[key]
		switch {
		case field == nil:
			return Endpoint{}, fmt.Errorf("ENDPOINT %s: unknown key %s", quoted, describeKey(key, query))
		case len(given) > 1:
			return Endpoint{}, fmt.Errorf("ENDPOINT %s: the key %s is given %d times", quoted, key, len(given))
		case given[0] == "":
			return Endpoint{}, fmt.Errorf("ENDPOINT %s: the key %s has no value", quoted, key)
		}
		shape := text.ShapeOf(given[0])
		if shape == "" && text.HasCommand(given[0]) {
			shape = text.Command
		}
		if shape != "" && key != "via" && !slices.Contains(allowedShapes[key], shape) {
			return Endpoint{}, fmt.Errorf("ENDPOINT %s: the key %s is %s", quoted, key, shape)
		}
		*field = given[0]
	}
	return e, nil
}

// allowedShapes holds the shapes that values of keys can have.
var allowedShapes = map[string][]text.Shape{"assume-role": {text.ARN}, "external-id": {text.UserAndHost, text.Assignment}}

// describeKey describes an unknown key, without what may be a part of a password: that of a
// proxy, or in a command, where a & is not percent-encoded.
func describeKey(key, query string) string {
	quoted := text.Plain.Quote(key)
	if strings.Contains(query, "@") || text.HasCommand(query) {
		quoted = text.NotShown(key)
	}
	if closest := text.Closest(key, strings.Split(strings.Replace(Keys, " and ", ", ", 1), ", ")); closest != "" {
		quoted += fmt.Sprintf(" (did you mean %q?)", closest)
	}
	return quoted + "; the keys are " + Keys
}

// MaxName is the maximum length of a name in PostgreSQL, in bytes. The server truncates longer
// names of clients; one of the configuration is a mistake.
const MaxName = 63

// settingName returns the name of a setting for errors: its key if the endpoint has it, or else
// its flag.
func (e Endpoint) settingName(key string) string {
	if *e.keys()[key] == "" {
		return "--" + key
	}
	return key
}

// validate returns an error for an invalid setting. The name of a setting is that of its key or
// its flag.
func (e Endpoint) validate(name func(key string) string) error {
	switch {
	case !auth.IsRegion(e.Region):
		return fmt.Errorf("%s %s: not a region's name such as eu-west-1", name("region"), text.Region.Quote(e.Region))
	case !slices.Contains([]string{"", "postgres", "direct"}, e.SSLNegotiation):
		return fmt.Errorf("sslnegotiation %s: must be postgres or direct", text.Plain.Quote(e.SSLNegotiation))
	case !slices.Contains([]string{"", "writer", "any"}, e.Target):
		return fmt.Errorf("%s %s: must be writer or any", name("target"), text.Plain.Quote(e.Target))
	case !text.Host.Matches(e.Listen) && !strings.HasPrefix(e.Listen, "unix:"):
		return fmt.Errorf("listen %s: must be HOST:PORT, or unix:DIR", text.NotShown(e.Listen))
	case e.PoolSize() < 0:
		return fmt.Errorf("%s %s: must be a number of connections, or 0 to keep none", name("pool"), text.Number.Quote(e.Pool))
	case len(e.User) > MaxName:
		return fmt.Errorf("%s: a name in PostgreSQL has at most %d bytes, and this one has %d", name("user"), MaxName, len(e.User))
	case len(e.Database) > MaxName:
		return fmt.Errorf("%s: a name in PostgreSQL has at most %d bytes, and this one has %d", name("database"), MaxName, len(e.Database))
	case e.Signer.ExternalID != "" && e.Signer.AssumeRole == "":
		return fmt.Errorf("%s requires %s; in a profile, set its external_id instead", name("external-id"), name("assume-role"))
	}
	for _, role := range splitRoles(e.Signer.AssumeRole) {
		if !maybeARN(role) {
			return fmt.Errorf("%s: %s is not the ARN of a role, such as arn:aws:iam::111122223333:role/name", name("assume-role"), text.NotShown(role))
		}
	}
	return nil
}

// maybeARN reports whether an error about the ARN of a role can repeat a word.
var maybeARN = text.Matching(`^(arn:[a-z-]*:[A-Za-z0-9_+=,.@/:-]*|[a-z-]{0,16})$`)

// aliasTimeout bounds the DNS lookup of regionError.
const aliasTimeout = 3 * time.Second

// regionError returns the error for a host that is not a name of AWS. If the host is a CNAME of
// one, the message contains the endpoint to use instead. It is not used automatically: the
// owner of a CNAME must not control what is signed and verified.
func regionError(ctx context.Context, e Endpoint) error {
	if e.Name.Kind != auth.Unknown {
		return text.WithAdvice(e.Name.NeedsRegion(e.Host))
	}
	ctx, cancel := context.WithTimeout(ctx, aliasTimeout)
	defer cancel()
	database := auth.Alias(ctx, e.Host, nil)
	if database == "" {
		return text.WithAdvice(e.Name.NeedsRegion(e.Host))
	}
	if e.Tunnel != nil {
		return fmt.Errorf("\"%s\" is an alias (CNAME) of a database; pass the name of the database as ENDPOINT, with the same --via: %s",
			e.Host, net.JoinHostPort(database, e.Port))
	}
	return fmt.Errorf("\"%s\" is an alias (CNAME) of a database; pass the name of the database as ENDPOINT, and the alias with via=: '%s?via=%s'",
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
		return fmt.Errorf("via %s: %w", text.Host.Quote(e.Via), err)
	}
	e.Via = net.JoinHostPort(host, port)
	return nil
}

func parseSOCKS(via string) (*upstream.SOCKS5, error) {
	address, err := url.Parse(via)
	if err != nil { // the text may be the first half of a URL with a comma in its password
		return nil, errNotSOCKS
	}
	host, port, err := splitHostPort(address.Host, "1080")
	switch {
	case address.Scheme != "socks5" && address.Scheme != "socks5h":
		return nil, errors.New("via: a URL can only be socks5://[user:password@]HOST:PORT or ssm://TARGET; write another address as HOST:PORT")
	case err != nil || strings.Trim(address.Path, "/") != "" || strings.ContainsAny(via, "?#"):
		return nil, errNotSOCKS
	}
	password, _ := address.User.Password()
	return &upstream.SOCKS5{Address: net.JoinHostPort(host, port), User: address.User.Username(), Password: password}, nil
}

var errNotSOCKS = errors.New("via: not socks5://[user:password@]HOST:PORT, percent-encoded as in a URL")
