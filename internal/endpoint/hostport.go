package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// splitHostPort parses HOST, HOST:PORT and, for numeric IPv6 hosts, [HOST]:PORT.
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
	case strings.Contains(port, "/"): // text is a URL
		return "", "", errNotHostPort
	case err != nil || number == 0:
		return "", "", fmt.Errorf("%s is no port", quotePart(text, port))
	}
	return host, strconv.FormatUint(number, 10), nil
}

var errNotHostPort = errors.New("not HOST or HOST:PORT, nor [IPV6]:PORT")

var hostName = regexp.MustCompile(`^([A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+\.?$`)

// isHost reports whether host is an IP address or a DNS name. A name without a letter is
// rejected: it is a port without its host.
func isHost(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || hostName.MatchString(host) && strings.ContainsFunc(host, unicode.IsLetter)
}

// quote quotes a word of the command line for an error message. A word that may contain the
// password of a proxy or a command is not shown.
func quote(word string) string { return quotePart(word, word) }

// quotePart quotes a part of a word, as quote does.
func quotePart(word, part string) string {
	if strings.ContainsRune(word, '@') || strings.Contains(word, "%40") || hasCommand(word) {
		return "(not shown, since there may be a password in it)"
	}
	return strconv.Quote(part)
}

// hasCommand reports whether a word may contain exec:COMMAND, also if exec: is misspelt.
func hasCommand(word string) bool { return commandPattern.MatchString(word) }

var commandPattern = regexp.MustCompile(`(?i)exec(\s|\+|%20)*(:|%3a)`)
