package endpoint

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/portforward"
	"github.com/iamproxy/iamproxy/internal/text"
)

// The prefixes of a via that starts a program.
const (
	ssmPrefix  = "ssm://"
	execPrefix = "exec:"
)

// Tunnel is a port forward that iamproxy starts: a session of Session Manager or a command.
type Tunnel struct {
	target          string   // of Session Manager; empty for a command
	region, profile string   // of the target; if empty, those of the endpoint
	command         []string // program and arguments, with placeholders
}

// parseTunnel parses ssm://TARGET[?region=REGION&profile=PROFILE] and exec:COMMAND. It returns
// nil for another via.
func parseTunnel(via string) (*Tunnel, error) {
	via = strings.TrimSpace(via)
	if n := len(execPrefix); len(via) >= n && strings.EqualFold(via[:n], execPrefix) {
		return parseCommand(via[n:])
	}
	if target, ok := strings.CutPrefix(via, ssmPrefix); ok {
		return parseSSM(target)
	}
	return nil, nil
}

// isSSMTarget reports whether a word is a target of Session Manager: an EC2 instance, another
// managed node, or a container of an ECS task.
// https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-sessions-start.html
var isSSMTarget = text.Matching(`^(m?i-[0-9a-f]+|ecs:[A-Za-z0-9_-]+_[0-9A-Za-z]+_[0-9A-Za-z-]+)$`)

func parseSSM(name string) (*Tunnel, error) {
	target, query, _ := strings.Cut(name, "?")
	t := &Tunnel{target: strings.TrimSuffix(target, "/")}
	if !isSSMTarget(t.target) {
		return nil, errors.New("via ssm://: not an instance (i-...), a managed node (mi-...) or a container (ecs:CLUSTER_TASK_RUNTIMEID)")
	}
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
	if t.target == "" {
		return execPrefix + filepath.Base(t.command[0])
	}
	query := url.Values{}
	for key, value := range map[string]string{"region": t.region, "profile": t.profile} {
		if value != "" {
			query.Set(key, value)
		}
	}
	if len(query) == 0 {
		return ssmPrefix + t.target
	}
	return ssmPrefix + t.target + "?" + query.Encode()
}

// Forward returns the port forward of the endpoint, not yet started. It returns nil if the
// endpoint has no tunnel, and an error if the program is not installed.
func (e Endpoint) Forward() (*portforward.Forward, error) {
	if e.Tunnel == nil {
		return nil, nil
	}
	args, err := e.Tunnel.args(e)
	if err != nil {
		return nil, err
	}
	return &portforward.Forward{Name: e.Tunnel.String(), Args: args, Env: portforward.Environment(), Hint: e.forwardHint}, nil
}

// args returns the program and its arguments. The placeholder of the local port remains.
func (t *Tunnel) args(e Endpoint) ([]string, error) {
	if t.target != "" {
		return t.ssmArgs(e)
	}
	program, err := t.lookPath(t.command[0], "")
	if err != nil {
		return nil, err
	}
	args := []string{program}
	fill := strings.NewReplacer("{host}", e.Host, "{dbport}", e.Port)
	for _, word := range t.command[1:] {
		args = append(args, fill.Replace(word))
	}
	return args, nil
}

// The installation guides of the programs that ssm:// needs.
const (
	installCLI    = "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html"
	installPlugin = "https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-install-plugin.html"
)

// ssmArgs returns the command of the AWS CLI that forwards a port by Session Manager.
// https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-sessions-start.html#sessions-remote-port-forwarding
func (t *Tunnel) ssmArgs(e Endpoint) ([]string, error) {
	aws, err := t.lookPath("aws", "; install the AWS CLI: "+installCLI)
	if err != nil {
		return nil, err
	}
	if _, err := t.lookPath("session-manager-plugin", ", which the AWS CLI needs for this; install it: "+installPlugin); err != nil {
		return nil, err
	}
	parameters, err := json.Marshal(map[string][]string{"host": {e.Host}, "portNumber": {e.Port}, "localPortNumber": {portforward.Port}})
	if err != nil {
		return nil, err
	}
	args := []string{aws, "ssm", "start-session", "--target", t.target,
		"--document-name", "AWS-StartPortForwardingSessionToRemoteHost", "--parameters", string(parameters),
		"--region", cmp.Or(t.region, e.Region)}
	return append(args, flags("--profile", t.profileName(e))...), nil
}

// lookPath returns the path of a program. The error ends with advice.
func (t *Tunnel) lookPath(program, advice string) (string, error) {
	path, err := exec.LookPath(program)
	switch {
	case err == nil:
		return path, nil
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("via %s: there is no program %s in PATH%s", t, filepath.Base(program), advice)
	default: // not executable, for example
		return "", fmt.Errorf("via %s: %w%s", t, err, advice)
	}
}

// forwardHint returns the advice for a port forward that ends or does not come up, by the last line
// of its output.
func (e Endpoint) forwardHint(output string) string {
	if e.Tunnel.target == "" {
		return "Check that the command stays in the foreground and forwards {port}. To see its errors, run it with a free port."
	}
	describe := e.Tunnel.awsCommand(e, "ssm", "describe-instance-information")
	logIn := text.ShellCommand(append([]string{"aws", "sso", "login"}, flags("--profile", e.Tunnel.profileName(e))...)...)
	contains := func(codes ...string) bool {
		return slices.ContainsFunc(codes, func(code string) bool { return strings.Contains(output, code) })
	}
	switch { // codes of the API, and texts of botocore
	case contains("TargetNotConnected"):
		return fmt.Sprintf("The target %s is not connected to Session Manager: it is stopped, or its SSM Agent or its IAM role is missing. `%s` lists the connected ones.", e.Tunnel.target, describe)
	case contains("Token has expired", "SSO session", "Error loading SSO Token"):
		return "The SSO session of the AWS CLI has expired. Run `" + logIn + "`, then connect again."
	case contains("ExpiredToken", "InvalidClientTokenId", "UnrecognizedClient", "Unable to locate credentials"):
		return "The AWS CLI has no valid credentials. Renew them where they come from."
	case contains("AccessDenied"):
		return "Allow the caller ssm:StartSession on the target and on the document AWS-StartPortForwardingSessionToRemoteHost."
	default:
		return fmt.Sprintf("Check that the target is connected to Session Manager (`%s`), and that the caller is allowed ssm:StartSession.", describe)
	}
}

// awsCommand returns a command line of the AWS CLI for the region and profile of the target.
func (t *Tunnel) awsCommand(e Endpoint, words ...string) string {
	return text.ShellCommand(slices.Concat([]string{"aws"}, words, flags("--region", cmp.Or(t.region, e.Region), "--profile", t.profileName(e)))...)
}

// profileName returns the profile of the target's credentials, or "".
func (t *Tunnel) profileName(e Endpoint) string { return cmp.Or(t.profile, e.Signer.Profile) }
