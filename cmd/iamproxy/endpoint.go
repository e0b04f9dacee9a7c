package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/proxy"
)

const defaultPort = "5432"

// endpoint is one database, and what is to be done for it.
type endpoint struct {
	host, port string    // as signed and, the host, verified
	name       auth.Name // what AWS's name says
	listen     string
	user       string
	database   string
	region     string
	signer     signer
	via        string // host:port, or tunnel's name; empty if there is socks
	socks      *proxy.SOCKS
	tunnel     *tunnel // nil unless via has a program started
	target     string
	// pool is how many idle connections are kept, in digits; empty is none.
	pool string
	// sslnegotiation is how TLS is begun with the database, in libpq's words.
	sslnegotiation string

	listening listenAddress // what listen says, or --listen
}

// signer is whose credentials sign.
type signer struct {
	profile    string
	assumeRole string // ARNs with commas between them
	externalID string
}

func (e endpoint) address() string { return net.JoinHostPort(e.host, e.port) }

// wantsWriter reports whether a session needs an instance that takes writes.
func (e endpoint) wantsWriter() bool {
	isWriters := e.name.Kind == auth.Cluster || e.name.Kind == auth.Global
	return e.target == "writer" || e.target == "" && isWriters
}

// poolSize is how many idle connections are kept; negative if that cannot be read.
func (e endpoint) poolSize() int {
	n, err := strconv.Atoi(cmp.Or(e.pool, "0"))
	if err != nil {
		return -1
	}
	return n
}

// keys are what may stand behind an endpoint's "?".
func (e *endpoint) keys() map[string]*string {
	return map[string]*string{
		"listen":         &e.listen,
		"user":           &e.user,
		"database":       &e.database,
		"region":         &e.region,
		"profile":        &e.signer.profile,
		"assume-role":    &e.signer.assumeRole,
		"external-id":    &e.signer.externalID,
		"via":            &e.via,
		"target":         &e.target,
		"pool":           &e.pool,
		"sslnegotiation": &e.sslnegotiation,
	}
}

// keyNames are the keys in words.
const keyNames = "listen, user, database, region, profile, assume-role, external-id, via, target, pool and sslnegotiation"

// parseEndpoints reads words that are endpoints, with commas between several, and fills in
// the flags.
func parseEndpoints(ctx context.Context, words []string, flags endpoint) (endpoints []endpoint, err error) {
	for _, word := range words {
		behind := false // a command
		for text := range strings.SplitSeq(word, ",") {
			if text = strings.TrimSpace(text); text == "" {
				continue
			}
			e, err := parseEndpoint(text)
			if err == nil {
				e, err = e.resolve(ctx, flags)
			}
			switch {
			case err != nil && behind:
				return nil, usagef("what stands behind a comma after exec: is no endpoint (not shown, since there may be a password in it); a comma of the command is written %%2C")
			case err != nil:
				return nil, err
			}
			behind = behind || hasCommand(text)
			endpoints = append(endpoints, e)
		}
	}
	return endpoints, nil
}

// parseEndpoint reads HOST[:PORT][?key=value&...].
func parseEndpoint(text string) (endpoint, error) {
	name, query, _ := strings.Cut(text, "?")
	if !strings.ContainsAny(text, ".:?") { // a misspelt command would be served as a database
		return endpoint{}, usagef("%s is neither a command nor an endpoint, which is the name that AWS gave the database", quoted(text))
	}
	host, port, err := splitHostPort(name, defaultPort)
	if err != nil {
		return endpoint{}, usagef("endpoint %s: %w", quoted(name), err)
	}
	// AWS signs and certifies lower-case names without the root's dot.
	e := endpoint{host: strings.ToLower(strings.TrimSuffix(host, ".")), port: port}
	e.name = auth.ParseName(e.host)
	values, err := url.ParseQuery(query)
	if err != nil { // it quotes what it cannot read
		return endpoint{}, usagef("endpoint %q: behind the ? it is not percent-encoded as in a URL: %s", name, quotedOf(query, err.Error()))
	}
	keys := e.keys()
	for key, given := range values {
		target := keys[key]
		switch {
		case target == nil:
			return endpoint{}, usagef("endpoint %q: unknown key %s; the keys are %s", name, quotedOf(query, key), keyNames)
		case len(given) > 1:
			return endpoint{}, usagef("endpoint %q: %s is given %d times", name, key, len(given))
		case given[0] == "":
			return endpoint{}, usagef("endpoint %q: %s has no value", name, key)
		}
		*target = given[0]
	}
	return e, nil
}

// resolve fills in what the endpoint itself does not say, and checks the rest.
func (e endpoint) resolve(ctx context.Context, flags endpoint) (endpoint, error) {
	fallback := flags.keys()
	for key, value := range e.keys() {
		if key != "listen" {
			*value = cmp.Or(*value, *fallback[key])
		}
	}
	e, err := e.parseVia()
	if err != nil {
		return endpoint{}, err
	}
	e.region = cmp.Or(e.region, e.name.Region)
	switch {
	case e.region == "":
		return endpoint{}, noRegion(ctx, e)
	case !auth.IsRegion(e.region):
		return endpoint{}, usagef("region %q: not of the form of a region's name, as eu-west-1", e.region)
	case !slices.Contains([]string{"", "postgres", "direct"}, e.sslnegotiation):
		return endpoint{}, usagef("sslnegotiation %q: neither postgres nor direct", e.sslnegotiation)
	case !slices.Contains([]string{"", "writer", "any"}, e.target):
		return endpoint{}, usagef("target %q: neither writer nor any", e.target)
	case e.poolSize() < 0:
		return endpoint{}, usagef("pool %q: must be a number of connections, or 0 to keep none", e.pool)
	case e.signer.externalID != "" && e.signer.assumeRole == "":
		return endpoint{}, usagef("external-id is of no use without assume-role; a profile has an external_id of its own")
	}
	return e, nil
}

// aliasTimeout bounds a look-up that only serves a better message.
const aliasTimeout = 3 * time.Second

// noRegion says what to do about a host of no known shape. Nothing is taken from
// DNS but the line to use instead, for a person to decide about: who can move a
// CNAME must not be trusted with what is signed and verified.
func noRegion(ctx context.Context, e endpoint) error {
	if e.name.Kind != auth.Unknown {
		return usageError{e.name.NeedsRegion(e.host)}
	}
	ctx, cancel := context.WithTimeout(ctx, aliasTimeout)
	defer cancel()
	database := auth.Alias(ctx, e.host, nil)
	if database == "" {
		return usageError{e.name.NeedsRegion(e.host)}
	}
	if e.tunnel != nil {
		return usagef("%s is not a name that AWS gives a database, but leads to one (CNAME); use that with the same --via: %s",
			e.host, net.JoinHostPort(database, e.port))
	}
	via := e.viaName()
	if via == "" {
		via = e.address()
	}
	return usagef("%s is not a name that AWS gives a database, but leads to one (CNAME); use that and this one with it: '%s?via=%s'",
		e.host, net.JoinHostPort(database, e.port), via)
}

// parseVia reads host:port, socks5://[user:password@]host:port, ssm://TARGET and
// exec:COMMAND.
func (e endpoint) parseVia() (endpoint, error) {
	if e.via == "" {
		return e, nil
	}
	tunnel, err := parseTunnel(e.via)
	switch {
	case err != nil:
		return endpoint{}, err
	case tunnel != nil:
		e.via, e.tunnel = tunnel.String(), tunnel
		return e, nil
	}
	if !strings.Contains(e.via, "://") {
		host, port, err := splitHostPort(e.via, defaultPort)
		if err != nil {
			return endpoint{}, usagef("via %s: %w", quoted(e.via), err)
		}
		e.via = net.JoinHostPort(host, port)
		return e, nil
	}
	address, err := url.Parse(e.via)
	if err != nil { // it may be the half of one that has a comma in its password
		return endpoint{}, usagef("via: not socks5://[user:password@]HOST:PORT, percent-encoded as in a URL")
	}
	host, port, err := splitHostPort(address.Host, "1080")
	switch {
	case address.Scheme != "socks5" && address.Scheme != "socks5h" || strings.Trim(address.Path, "/") != "" || strings.ContainsAny(e.via, "?#"):
		return endpoint{}, usagef("via %s: neither HOST:PORT nor socks5://[user:password@]HOST:PORT, percent-encoded as in a URL, nor ssm://TARGET or exec:COMMAND", quoted(e.via))
	case err != nil:
		return endpoint{}, usagef("via %s: not socks5://[user:password@]HOST:PORT, percent-encoded as in a URL", quoted(e.via))
	}
	password, _ := address.User.Password()
	e.via, e.socks = "", &proxy.SOCKS{Address: net.JoinHostPort(host, port), User: address.User.Username(), Password: password}
	return e, nil
}

// viaName is what via leads to, without the password of a proxy.
func (e endpoint) viaName() string {
	if e.socks != nil {
		return e.socks.String()
	}
	return e.via
}

// quoted is a word of the command line in an error. It may be, or be a part of, the
// URL of a proxy with its password, or a command with one.
func quoted(word string) string { return quotedOf(word, word) }

// quotedOf is a part of such a word.
func quotedOf(word, part string) string {
	if strings.ContainsRune(word, '@') || strings.Contains(word, "%40") || hasCommand(word) {
		return "(not shown, since there may be a password in it)"
	}
	return strconv.Quote(part)
}

// hasCommand reports whether there may be a command in a word, also one that is misspelt.
func hasCommand(word string) bool { return aCommand.MatchString(word) }

var aCommand = regexp.MustCompile(`(?i)exec(\s|\+|%20)*(:|%3a)`)

// splitHostPort takes HOST, HOST:PORT and, for numeric IPv6 hosts, [HOST]:PORT.
func splitHostPort(text, defaultPort string) (host, port string, err error) {
	host, port = text, defaultPort
	if strings.Contains(text, ":") {
		if host, port, err = net.SplitHostPort(text); err != nil {
			return "", "", errNotHostPort
		}
	}
	switch {
	case host == "":
		return "", "", errors.New("no host in it")
	case !isHost(host):
		return "", "", errNotHostPort
	}
	number, err := strconv.ParseUint(port, 10, 16)
	switch {
	case strings.Contains(port, "/"): // of a URL
		return "", "", errNotHostPort
	case err != nil || number == 0:
		return "", "", fmt.Errorf("%s is no port", quotedOf(text, port))
	}
	return host, strconv.FormatUint(number, 10), nil
}

var errNotHostPort = errors.New("not HOST or HOST:PORT, nor [IPV6]:PORT")

var hostName = regexp.MustCompile(`^([A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+\.?$`)

// isHost takes addresses, and names that resolvers take but for those that have
// no letter: that is a port without its host.
func isHost(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || hostName.MatchString(host) && strings.ContainsFunc(host, unicode.IsLetter)
}
