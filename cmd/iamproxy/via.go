package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/portforward"
)

// The schemes of a via that starts a program.
const (
	ssmScheme = "ssm://"
	execColon = "exec:"
)

// tunnel is a port forward that iamproxy starts itself.
type tunnel struct {
	// target is where Session Manager has its other end; empty if it is a command's.
	target string
	// region and profile are those of the target; if empty, the endpoint's.
	region, profile string
	// command are the program and its arguments, with the placeholders in them.
	command []string
	// forward is nil until it is started.
	forward *portforward.Forward
}

// parseTunnel reads ssm://TARGET[?region=REGION&profile=PROFILE] and exec:COMMAND. It is nil
// for another via.
func parseTunnel(via string) (*tunnel, error) {
	via = strings.TrimSpace(via)
	if n := len(execColon); len(via) >= n && strings.EqualFold(via[:n], execColon) {
		return parseCommand(via[n:])
	}
	if target, ok := strings.CutPrefix(via, ssmScheme); ok {
		return parseSSM(target)
	}
	return nil, nil
}

// ssmTarget is what Session Manager opens sessions to: an EC2 instance, another managed
// node, or a container of an ECS task.
// https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-sessions-start.html
var ssmTarget = regexp.MustCompile(`^(m?i-[0-9a-f]+|ecs:[A-Za-z0-9_-]+_[0-9A-Za-z]+_[0-9A-Za-z-]+)$`)

func parseSSM(text string) (*tunnel, error) {
	target, query, _ := strings.Cut(text, "?")
	t := &tunnel{target: strings.TrimSuffix(target, "/")}
	if !ssmTarget.MatchString(t.target) {
		return nil, usagef("via ssm://: %s is neither an instance (i-...), a managed node (mi-...) nor a container (ecs:CLUSTER_TASK_RUNTIMEID)", quoted(t.target))
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, usagef("via %s: behind the ? it is not percent-encoded as in a URL", t)
	}
	for key, given := range values {
		field := map[string]*string{"region": &t.region, "profile": &t.profile}[key]
		if field == nil || len(given) > 1 || given[0] == "" {
			return nil, usagef("via %s: behind the ? there may only be region= and profile=, once each (in an ENDPOINT the & is written %%26)", t)
		}
		*field = given[0]
	}
	if t.region != "" && !auth.IsRegion(t.region) {
		return nil, usagef("via %s: region %q: not of the form of a region's name, as eu-west-1", t, t.region)
	}
	return t, nil
}

// placeholders are what is filled in to a command.
var placeholders = []string{portforward.Port, "{host}", "{dbport}"}

// placeholder is one of them, or what somebody may have meant to be. Behind a $ it is a variable.
var placeholder = regexp.MustCompile(`(?i)\$?\{(local|remote|db|database|rds|endpoint)?[_-]?(host|name|port)\}`)

// assignment sets a variable for the program behind it.
var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*\+?=`)

// parseCommand reads the command of exec:. It is in no error, since there may be a password
// in it.
func parseCommand(text string) (*tunnel, error) {
	const likeThis = "as in exec:ssh -N -L {port}:{host}:{dbport} bastion"
	for _, name := range placeholder.FindAllString(text, -1) {
		if !slices.Contains(placeholders, name) && name[0] != '$' {
			return nil, usagef("via exec: %s in the command is none of {port}, {host} and {dbport}", name)
		}
	}
	command, err := splitCommand(text)
	switch {
	case err != nil:
		return nil, usagef("via exec: the command is not the words of one program (quotes and $VARIABLES are fine; for more, sh -c '...')%s", whatIsWrong(err))
	case !strings.Contains(strings.Join(command, " "), portforward.Port):
		return nil, usagef("via exec: there is no {port} in the command, where the local port goes, %s", likeThis)
	case assignment.MatchString(command[0]):
		return nil, usagef("via exec: the command has to begin with a program; to set a variable, begin with env, as in exec:env NAME=... ssh")
	case command[0] == "" || placeholder.MatchString(command[0]):
		return nil, usagef("via exec: the command has to begin with a program, %s", likeThis)
	}
	return &tunnel{command: command}, nil
}

// splitCommand returns the words of a command as a POSIX shell has them, on every system:
// with quotes, ~ and $VARIABLES, but nothing that would take a shell to run it.
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

// whatIsWrong is what an error of splitCommand may show of the command.
func whatIsWrong(err error) string {
	var syntaxError syntax.ParseError
	var unset expand.UnsetParameterError
	switch {
	case errors.As(err, &syntaxError):
		return fmt.Sprintf(": not understood at byte %d of it", syntaxError.Pos.Offset()+1)
	case errors.As(err, &unset):
		return fmt.Sprintf(": $%s is not set", unset.Node.Param.Value)
	default:
		return ""
	}
}

// String is what messages call it. Of a command that is the program alone.
func (t *tunnel) String() string {
	if t.target == "" {
		return execColon + filepath.Base(t.command[0])
	}
	query := url.Values{}
	for key, value := range map[string]string{"region": t.region, "profile": t.profile} {
		if value != "" {
			query.Set(key, value)
		}
	}
	if len(query) == 0 {
		return ssmScheme + t.target
	}
	return ssmScheme + t.target + "?" + query.Encode()
}

// viaFlag is what --via is for the same endpoint. What may have a password in it is left for
// whoever knows it.
func (e endpoint) viaFlag() string {
	if e.tunnel != nil && e.tunnel.target == "" {
		return execColon + "COMMAND"
	}
	return e.viaName()
}

// args are the program and its arguments, with the local port left open.
func (t *tunnel) args(e endpoint) ([]string, error) {
	if t.target != "" {
		return t.ssmArgs(e)
	}
	program, err := t.find(t.command[0], "")
	if err != nil {
		return nil, err
	}
	args := []string{program}
	fill := strings.NewReplacer("{host}", e.host, "{dbport}", e.port)
	for _, word := range t.command[1:] {
		args = append(args, fill.Replace(word))
	}
	return args, nil
}

// Where AWS says how to install what ssm:// needs.
const (
	installCLI    = "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html"
	installPlugin = "https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-install-plugin.html"
)

// ssmArgs have the AWS CLI start a session that forwards a port.
// https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-sessions-start.html#sessions-remote-port-forwarding
func (t *tunnel) ssmArgs(e endpoint) ([]string, error) {
	aws, err := t.find("aws", "; install the AWS CLI: "+installCLI)
	if err != nil {
		return nil, err
	}
	if _, err := t.find("session-manager-plugin", ", which the AWS CLI needs for this; install it: "+installPlugin); err != nil {
		return nil, err
	}
	parameters, err := json.Marshal(map[string][]string{"host": {e.host}, "portNumber": {e.port}, "localPortNumber": {portforward.Port}})
	if err != nil {
		return nil, err
	}
	args := []string{aws, "ssm", "start-session", "--target", t.target,
		"--document-name", "AWS-StartPortForwardingSessionToRemoteHost", "--parameters", string(parameters),
		"--region", cmp.Or(t.region, e.region)}
	if profile := cmp.Or(t.profile, e.signer.profile); profile != "" {
		args = append(args, "--profile", profile)
	}
	return args, nil
}

// find returns the path of a program.
func (t *tunnel) find(program, advice string) (string, error) {
	path, err := exec.LookPath(program)
	switch {
	case err == nil:
		return path, nil
	case errors.Is(err, exec.ErrNotFound):
		return "", usagef("via %s: there is no program %s in PATH%s", t, filepath.Base(program), advice)
	default: // it is there, but cannot be run
		return "", usagef("via %s: %w%s", t, err, advice)
	}
}

// hint is what to do about a forward that ends or does not come up.
func (t *tunnel) hint() string {
	if t.target != "" {
		return "check that the target is online in Session Manager (aws ssm describe-instance-information), that who asks may ssm:StartSession, and that the login has not expired (aws sso login)"
	}
	return "check that the command stays in the foreground and forwards {port}; run by hand with a port of yours it may say more"
}

// dialer connects, as net.Dialer's DialContext does.
type dialer = func(ctx context.Context, network, address string) (net.Conn, error)

// forwards are the port forwards that were started. The zero value has none, and
// logs nothing.
type forwards struct {
	log     *zap.Logger // may be nil
	running []*portforward.Forward
}

// to starts the one that the endpoint wants, and returns what connects through it. It is
// nil for an endpoint that wants none.
func (f *forwards) to(e endpoint) (dial dialer, err error) {
	if e.tunnel == nil {
		return nil, nil
	}
	args, err := e.tunnel.args(e)
	if err != nil {
		return nil, err
	}
	started := &portforward.Forward{Name: e.tunnel.String(), Args: args, Env: environment(), Hint: e.tunnel.hint(), Log: f.log}
	started.Start()
	f.running, e.tunnel.forward = append(f.running, started), started
	return started.Dial, nil
}

// environment is what the programs inherit: all but a password, and what is for iamproxy alone.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "PGPASSWORD=") || strings.HasPrefix(variable, "IAMPROXY_")
	})
}

// stop ends them all.
func (f *forwards) stop() {
	var all sync.WaitGroup
	for _, running := range f.running {
		all.Go(running.Stop)
	}
	all.Wait()
}
