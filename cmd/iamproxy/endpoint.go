package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/iamproxy/iamproxy/auth"
)

const defaultPort = "5432"

// endpoint is one database, and what is to be done for it.
type endpoint struct {
	host, port string // as signed and, the host, verified
	listen     string
	user       string
	database   string
	region     string
	via        string // host:port
	// sslnegotiation is how TLS is begun with the database, in libpq's words.
	sslnegotiation string

	listening listenAddress // what listen says, or --listen
}

func (e endpoint) address() string { return net.JoinHostPort(e.host, e.port) }

// parseEndpoint reads HOST[:PORT][?key=value&...].
func parseEndpoint(text string) (endpoint, error) {
	name, query, _ := strings.Cut(text, "?")
	if !strings.ContainsAny(text, ".:?") { // a misspelt command would be served as a database
		return endpoint{}, usagef("%q is neither a command nor an endpoint, which is the name that AWS gave the database", text)
	}
	host, port, err := splitHostPort(name)
	if err != nil {
		return endpoint{}, usagef("endpoint %q: %w", text, err)
	}
	// AWS signs and certifies lower-case names without the root's dot.
	e := endpoint{host: strings.ToLower(strings.TrimSuffix(host, ".")), port: port}
	values, err := url.ParseQuery(query)
	if err != nil {
		return endpoint{}, usagef("endpoint %q: %w", text, err)
	}
	keys := map[string]*string{"listen": &e.listen, "user": &e.user, "database": &e.database, "region": &e.region, "via": &e.via, "sslnegotiation": &e.sslnegotiation}
	for key, given := range values {
		target := keys[key]
		switch {
		case target == nil:
			return endpoint{}, usagef("endpoint %q: unknown key %q; the keys are listen, user, database, region, via and sslnegotiation", text, key)
		case len(given) > 1:
			return endpoint{}, usagef("endpoint %q: %s is given %d times", text, key, len(given))
		case given[0] == "":
			return endpoint{}, usagef("endpoint %q: %s has no value", text, key)
		}
		*target = given[0]
	}
	return e, nil
}

// resolve fills in what the endpoint itself does not say, and checks the rest.
func (e endpoint) resolve(flags endpoint) (endpoint, error) {
	e.user = cmp.Or(e.user, flags.user)
	e.database = cmp.Or(e.database, flags.database)
	e.region = cmp.Or(e.region, flags.region)
	e.via = cmp.Or(e.via, flags.via)
	if e.region == "" {
		region, err := auth.Region(e.host)
		if err != nil {
			return endpoint{}, usageError{err}
		}
		e.region = region
	}
	if !auth.IsRegion(e.region) {
		return endpoint{}, usagef("region %q: not of the form of a region's name, as eu-west-1", e.region)
	}
	if !slices.Contains([]string{"", "postgres", "direct"}, e.sslnegotiation) {
		return endpoint{}, usagef("sslnegotiation %q: neither postgres nor direct", e.sslnegotiation)
	}
	if e.via != "" {
		host, port, err := splitHostPort(e.via)
		if err != nil {
			return endpoint{}, usagef("via %q: %w", e.via, err)
		}
		e.via = net.JoinHostPort(host, port)
	}
	return e, nil
}

// splitHostPort takes HOST, HOST:PORT and, for numeric IPv6 hosts, [HOST]:PORT.
func splitHostPort(text string) (host, port string, err error) {
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
		return "", "", fmt.Errorf("%q is no port", port)
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
