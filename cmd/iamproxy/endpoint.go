package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
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
	keys := map[string]*string{"listen": &e.listen, "user": &e.user, "database": &e.database, "region": &e.region, "via": &e.via}
	for key, given := range values {
		target := keys[key]
		switch {
		case target == nil:
			return endpoint{}, usagef("endpoint %q: unknown key %q; the keys are listen, user, database, region and via", text, key)
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

// listenAddresses gives each endpoint its address: the one it names, else the
// first one given, and for each further endpoint the port behind.
func listenAddresses(endpoints []endpoint, first string) error {
	host, text, err := net.SplitHostPort(first)
	if err != nil {
		return usagef("--listen %s: not HOST:PORT", first)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return usagef("--listen %s: %q is no port", first, text)
	}
	for i := range endpoints {
		if endpoints[i].listen == "" {
			if port > 65535 {
				return usagef("--listen %s: no port is left for %s", first, endpoints[i].host)
			}
			endpoints[i].listen = net.JoinHostPort(host, strconv.FormatUint(port, 10))
			if port != 0 { // 0 is any free port
				port++
			}
		}
		if err := checkLoopback(endpoints[i].listen); err != nil {
			return err
		}
	}
	return nil
}

// checkLoopback keeps the listener to this host: whoever reaches it gets the
// database without a password.
func checkLoopback(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return usagef("listen address %s: not HOST:PORT", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return usagef("listen address %s: %q is no port", address, port)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usagef("listen address %s: not a loopback address; whoever can connect here needs no password, so use 127.0.0.1 or [::1]", address)
	}
	return nil
}
