package endpoint

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/portforward"
	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
	"github.com/iamproxy/iamproxy/internal/text"
)

// The prefixes of a via that starts a program.
const (
	ssmPrefix  = "ssm://"
	execPrefix = "exec:"
)

// Tunnel is a port forward that iamproxy starts: a session of Session Manager or a command.
type Tunnel struct {
	target          *ssm.Target // nil for a command
	region, profile string      // of the target; if empty, those of the endpoint
	command         []string    // program and arguments, with placeholders
}

// parseTunnel parses ssm://TARGET[?region=REGION&profile=PROFILE] and exec:COMMAND. It returns
// nil for another via.
func parseTunnel(via string) (*Tunnel, error) {
	via = strings.TrimSpace(via)
	if command, ok := cutPrefix(via, execPrefix); ok {
		return parseCommand(command)
	}
	if target, ok := cutPrefix(via, ssmPrefix); ok {
		return parseSSM(target)
	}
	return nil, nil
}

// cutPrefix is strings.CutPrefix without regard to case, as for the scheme of a URL.
func cutPrefix(via, prefix string) (rest string, found bool) {
	n := len(prefix)
	if len(via) < n || !strings.EqualFold(via[:n], prefix) {
		return via, false
	}
	return via[n:], true
}

func parseSSM(name string) (*Tunnel, error) {
	name, query, _ := strings.Cut(name, "?")
	target, err := ssm.ParseTarget(name)
	if err != nil {
		return nil, fmt.Errorf("via ssm://: %w", err)
	}
	t := &Tunnel{target: &target}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, fmt.Errorf("via ssm://%s: the part after the ? is not percent-encoded as in a URL", t.target)
	}
	for key, given := range values {
		field := map[string]*string{"region": &t.region, "profile": &t.profile}[key]
		if field == nil || len(given) > 1 || given[0] == "" {
			return nil, fmt.Errorf("via ssm://%s: only region= and profile= can follow the ?, once each (in an ENDPOINT, write the & as %%26)", t.target)
		}
		*field = given[0]
	}
	if t.region != "" && !auth.IsRegion(t.region) {
		return nil, fmt.Errorf("via ssm://%s: region %s: not a region's name such as eu-west-1", t.target, text.Region.Quote(t.region))
	}
	return t, nil
}

// placeholders are the words that are replaced in a command.
var placeholders = []string{portforward.Port, "{host}", "{dbport}"}

// placeholder matches placeholders and words that look like a misspelt one. With a $ it is a
// variable of the shell.
var placeholder = text.Regexp(`(?i)\$?\{(local|remote|db|database|rds|endpoint)?[_-]?(host|name|port)\}`)

// isAssignment reports whether a word is an assignment to a variable before a command.
var isAssignment = text.Matching(`^[A-Za-z_][A-Za-z0-9_]*\+?=`)

// parseCommand parses the command of exec:. Errors do not contain it, since it may contain a
// password.
func parseCommand(text string) (*Tunnel, error) {
	const example = "as in exec:ssh -N -L {port}:{host}:{dbport} bastion"
	for _, name := range placeholder().FindAllString(text, -1) {
		if !slices.Contains(placeholders, name) && name[0] != '$' {
			return nil, fmt.Errorf("via exec: %s in the command is none of {port}, {host} and {dbport}", name)
		}
	}
	command, err := splitCommand(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("via exec: the command is not one program with its arguments (quotes and $VARIABLES can be used; for more, sh -c '...')%s", splitErrorDetail(err))
	case !strings.Contains(strings.Join(command, " "), portforward.Port):
		return nil, fmt.Errorf("via exec: the command has no {port} for the local port, %s", example)
	case isAssignment(command[0]):
		return nil, errors.New("via exec: the command must begin with a program; to set a variable, begin with env, as in exec:env NAME=... ssh")
	case command[0] == "" || placeholder().MatchString(command[0]):
		return nil, fmt.Errorf("via exec: the command must begin with a program, %s", example)
	}
	return &Tunnel{command: command}, nil
}

// splitCommand splits a command into words as a POSIX shell does, on every system. It expands
// quotes, ~ and $VARIABLES, and returns an error for anything that only a shell can run.
func splitCommand(text string) ([]string, error) {
	var words []*syntax.Word
	for word, err := range syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).WordsSeq(strings.NewReader(text)) {
		if err != nil {
			return nil, err
		}
		words = append(words, word)
	}
	return expand.Fields(&expand.Config{Env: expand.FuncEnviron(os.Getenv), NoUnset: true}, words...)
}

// splitErrorDetail returns the details of an error of splitCommand that do not contain a part
// of the command.
func splitErrorDetail(err error) string {
	var syntaxError syntax.ParseError
	var unset expand.UnsetParameterError
	switch {
	case errors.As(err, &syntaxError):
		return fmt.Sprintf(": syntax error at byte %d", syntaxError.Pos.Offset()+1)
	case errors.As(err, &unset):
		return fmt.Sprintf(": $%s is not set", unset.Node.Param.Value)
	default:
		return ""
	}
}

// String returns the tunnel for messages. Of a command it contains only the program.
func (t *Tunnel) String() string {
	if t.target == nil {
		return execPrefix + filepath.Base(t.command[0])
	}
	query := url.Values{}
	for key, value := range map[string]string{"region": t.region, "profile": t.profile} {
		if value != "" {
			query.Set(key, value)
		}
	}
	if len(query) == 0 {
		return ssmPrefix + t.target.String()
	}
	return ssmPrefix + t.target.String() + "?" + query.Encode()
}
