package command

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/iamproxy/iamproxy/internal/text"
)

// Target is where the command finds one database.
type Target struct {
	User, Database string // empty if the command chooses
	// TCP is the address HOST:PORT, or empty. Socket is the directory of the unix socket, or
	// empty, and SocketPort the port in its name.
	TCP                string
	Socket, SocketPort string
}

// hostPort returns the host and the port of the address.
func (t Target) hostPort() (host, port string) {
	host, port, _ = net.SplitHostPort(t.TCP)
	return host, port
}

// variables returns the variables of libpq for a target.
// https://www.postgresql.org/docs/current/libpq-envars.html
func (t Target) variables() map[string]string {
	host, port := t.Socket, t.SocketPort
	if host == "" {
		host, port = t.hostPort()
	}
	v := map[string]string{"PGHOST": host, "PGPORT": port, "PGSSLMODE": "disable"}
	if t.User != "" {
		v["PGUSER"] = t.User
	}
	if t.Database != "" {
		v["PGDATABASE"] = t.Database
	}
	return v
}

// removed are the variables of libpq that would lead elsewhere, or require what iamproxy does not
// offer to the command.
var removed = []string{"PGHOSTADDR", "PGSERVICE", "PGPASSWORD", "PGREQUIRESSL", "PGREQUIREAUTH", "PGCHANNELBINDING", "PGSSLNEGOTIATION", "PGGSSENCMODE"}

// Environment returns the environment of a command for targets: that of inherited, but for variables
// of iamproxy, with the variables of libpq for the first target, and with more. If clean, variables
// of AWS are left out.
func Environment(inherited []string, clean bool, targets []Target, more map[string]string) []string {
	set := targets[0].variables()
	for name, value := range more {
		set[name] = value
	}
	env := slices.DeleteFunc(slices.Clone(inherited), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		_, replaced := set[name]
		return replaced || slices.Contains(removed, name) || strings.HasPrefix(name, "IAMPROXY_") || clean && strings.HasPrefix(name, "AWS_")
	})
	for name, value := range set {
		env = append(env, name+"="+value)
	}
	return env
}

// Template is the value of --env: NAME=TEMPLATE.
type Template struct{ Name, format string }

// placeholder matches {host} and, for the second endpoint, {host2}.
var placeholder = text.Regexp(`\{([a-z]+)([0-9]*)\}`)

// ParseTemplate parses NAME=TEMPLATE. Its placeholders must be those of targets, of which only User
// and Database are known yet.
func ParseTemplate(argument string, targets []Target) (Template, error) {
	name, format, ok := strings.Cut(argument, "=")
	if !ok || !isVariableName(name) {
		return Template{}, fmt.Errorf("--env: must be NAME=TEMPLATE, such as DATABASE_URL=postgres://{user}@{host}:{port}/{database}")
	}
	for _, found := range placeholder().FindAllStringSubmatch(format, -1) {
		i, err := index(found[2], len(targets))
		if err != nil {
			return Template{}, fmt.Errorf("--env %s: %s: %w", name, found[0], err)
		}
		switch t := targets[i]; {
		case !slices.Contains([]string{"user", "database", "host", "port", "socket"}, found[1]):
			return Template{}, fmt.Errorf("--env %s: %s is unknown; there are {user}, {database}, {host}, {port} and {socket}", name, found[0])
		case found[1] == "user" && t.User == "", found[1] == "database" && t.Database == "":
			return Template{}, fmt.Errorf("--env %s: %s needs --%s", name, found[0], found[1])
		}
	}
	return Template{name, format}, nil
}

var isVariableName = text.Matching(`^[A-Za-z_][A-Za-z0-9_]*$`)

// index returns the index of a target from the number in a placeholder, which is 1 or empty for the
// first.
func index(number string, targets int) (int, error) {
	if number == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > targets {
		return 0, fmt.Errorf("there is no endpoint %s", number)
	}
	return n - 1, nil
}

// NeedsTCP reports whether the template has the host of a target.
func (t Template) NeedsTCP(i int) bool { return t.names("host", i) }

// NeedsSocket reports whether the template has the unix socket of a target.
func (t Template) NeedsSocket(i int) bool { return t.names("socket", i) }

func (t Template) names(what string, i int) bool {
	return slices.ContainsFunc(placeholder().FindAllStringSubmatch(t.format, -1), func(found []string) bool {
		at, err := index(found[2], i+1)
		return err == nil && at == i && found[1] == what
	})
}

// Expand returns the value of the variable. In a URL, values are percent-encoded.
func (t Template) Expand(targets []Target) string {
	return placeholder().ReplaceAllStringFunc(t.format, func(word string) string {
		found := placeholder().FindStringSubmatch(word)
		i, err := index(found[2], len(targets))
		if err != nil {
			return word // ParseTemplate has rejected it
		}
		target := targets[i]
		host, port := target.hostPort()
		if t.NeedsSocket(i) || host == "" {
			port = target.SocketPort
		}
		if host == "" { // as in libpq
			host = target.Socket
		}
		value := map[string]string{"user": target.User, "database": target.Database, "host": host, "port": port, "socket": target.Socket}[found[1]]
		switch {
		case !strings.Contains(t.format, "://"):
			return value
		case found[1] == "host" && net.ParseIP(host) != nil && strings.Contains(host, ":"): // RFC 3986, section 3.2.2
			return "[" + host + "]"
		default:
			return strings.ReplaceAll(url.QueryEscape(value), "+", "%20")
		}
	})
}
