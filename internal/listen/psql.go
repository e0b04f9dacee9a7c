package listen

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"strings"
)

// PSQLCommand returns the command line of psql for the address of a listener. It has placeholders
// for a user and a database that are empty, or that would have to be quoted. A listener at one of
// the addresses of localhost is called by it: another program may listen at the other.
func PSQLCommand(address, user, database string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil { // a unix socket: DIR/.s.PGSQL.PORT
		host, port = path.Dir(address), strings.TrimPrefix(path.Ext(address), ".")
	} else if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = localhost
	}
	return fmt.Sprintf(`psql "host=%s port=%s user=%s dbname=%s"`, conninfoValue(host, "HOST"), port,
		conninfoValue(user, "USER"), conninfoValue(database, "DATABASE"))
}

// conninfoValue returns a value of a connection string in double quotes of a shell. It returns
// the placeholder for an empty value, and for one that has to be quoted.
func conninfoValue(value, placeholder string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:@%", r)
	}
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return !plain(r) }) {
		return placeholder
	}
	return value
}
