package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"github.com/iamproxy/iamproxy/internal/text"
)

// splitHostPort parses HOST, HOST:PORT and, for numeric IPv6 hosts, [HOST]:PORT.
func splitHostPort(address, defaultPort string) (host, port string, err error) {
	host, port = address, defaultPort
	if strings.Contains(address, ":") {
		if host, port, err = net.SplitHostPort(address); err != nil {
			return "", "", errNotHostPort
		}
	}
	switch {
	case strings.Trim(host, "0123456789") == "":
		return "", "", errors.New("it has no host")
	case hasEmptyLabel(host):
		return "", "", errEmptyLabel
	case !isHost(host):
		return "", "", errNotHostPort
	}
	number, err := strconv.ParseUint(port, 10, 16)
	switch {
	case (err != nil || number == 0) && text.Port.Matches(port):
		return "", "", fmt.Errorf("%q is not a port", port)
	case err != nil || number == 0:
		return "", "", errNotHostPort
	}
	return host, strconv.FormatUint(number, 10), nil
}

var errNotHostPort = errors.New("not HOST[:PORT] or [IPV6]:PORT")

var errEmptyLabel = errors.New("the host name has an empty label: a dot at the start, or two dots in a row")

// hasEmptyLabel reports whether host would be a DNS name but for an empty label.
func hasEmptyLabel(host string) bool {
	full := host
	for strings.Contains(full, "..") {
		full = strings.ReplaceAll(full, "..", ".")
	}
	full = strings.TrimLeft(full, ".")
	return strings.TrimSuffix(full, ".") != strings.TrimSuffix(host, ".") && isHost(full)
}

// isLabel reports whether a word is a label of a DNS name.
var isLabel = text.Matching(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,62}$`)

// maxHost is the maximum length of a DNS name, with its final dot.
const maxHost = 254

// isHost reports whether host is an IP address or a DNS name. A name without a letter is
// rejected: it is a port without its host.
func isHost(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || len(host) <= maxHost && isHostName(host) && strings.ContainsFunc(host, unicode.IsLetter)
}

func isHostName(host string) bool {
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if !isLabel(label) {
			return false
		}
	}
	return true
}
