package endpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/portforward"
	"github.com/iamproxy/iamproxy/internal/portforward/ssm"
	"github.com/iamproxy/iamproxy/internal/text"
)

// Forward is a port forward to the database.
type Forward interface {
	// Start starts the forward in the background. It must be called once, before the other
	// methods.
	Start()
	// Stop ends the forward. It takes a few seconds at most.
	Stop()
	// Dial connects to the database, and ignores the address. It waits for the forward until
	// ctx is done.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
}

// Session describes a session of Session Manager, and whose credentials open it.
type Session struct {
	Target  ssm.Target
	Region  string
	Profile string // may be empty
}

// Session returns the session that the endpoint's tunnel opens. It is false if it opens none.
func (e Endpoint) Session() (Session, bool) {
	if e.Tunnel == nil || e.Tunnel.target == nil {
		return Session{}, false
	}
	return Session{
		Target:  *e.Tunnel.target,
		Region:  cmp.Or(e.Tunnel.region, e.Region),
		Profile: cmp.Or(e.Tunnel.profile, e.Signer.Profile),
	}, true
}

// Forward returns the port forward of the endpoint, not yet started. It returns nil if the
// endpoint has no tunnel, and an error if a program is not installed or the AWS configuration is
// wrong. The log may be nil.
func (e Endpoint) Forward(ctx context.Context, identities *Identities, log *zap.Logger) (Forward, error) {
	if e.Tunnel == nil {
		return nil, nil
	}
	if session, ok := e.Session(); ok {
		return e.sessionForward(ctx, session, identities, log)
	}
	args, err := e.programArgs()
	if err != nil {
		return nil, err
	}
	return &portforward.Forward{Name: e.Tunnel.String(), Args: args, Env: portforward.Environment(), Hint: programHint, Log: log}, nil
}

func (e Endpoint) sessionForward(ctx context.Context, session Session, identities *Identities, log *zap.Logger) (Forward, error) {
	identity, err := identities.loadSession(ctx, session)
	if err != nil {
		return nil, fmt.Errorf("via %s: %w", e.Tunnel, err)
	}
	config := identity.ConfigIn(session.Region)
	return &ssm.Forward{
		Name:          e.Tunnel.String(),
		Target:        session.Target,
		Host:          e.Host,
		Port:          e.Port,
		API:           &ssm.Client{Config: config, Rejected: identity.Invalidate},
		Config:        config,
		AllowHTTP:     strings.HasPrefix(identity.EndpointURL("SSM"), "http://"),
		CLIFlags:      text.ShellCommand(flags("--region", session.Region, "--profile", session.Profile)...),
		PolicyCommand: e.Command("policy", slices.Concat(e.SignFlags(), flags("--via", e.ViaFlag()))...),
		Log:           log,
	}, nil
}

// programArgs returns the program of a command and its arguments. The placeholder of the local
// port remains.
func (e Endpoint) programArgs() ([]string, error) {
	program := e.Tunnel.command[0]
	path, err := exec.LookPath(program)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("via %s: there is no program %s in PATH", e.Tunnel, filepath.Base(program))
	case err != nil: // not executable, for example
		return nil, fmt.Errorf("via %s: %w", e.Tunnel, err)
	}
	args := []string{path}
	fill := strings.NewReplacer("{host}", e.Host, "{dbport}", e.Port)
	for _, word := range e.Tunnel.command[1:] {
		args = append(args, fill.Replace(word))
	}
	return args, nil
}

// programHint is the hint for a command that exits or does not come up.
const programHint = "Check that the command stays in the foreground and forwards {port}. To see its errors, run it with a free port."

// StartAll starts the forwards that are not nil, and returns a function that stops them.
func StartAll(forwards ...Forward) (stop func()) {
	var stopping sync.WaitGroup
	for _, f := range forwards {
		if f != nil {
			f.Start()
		}
	}
	return func() {
		for _, f := range forwards {
			if f != nil {
				stopping.Go(f.Stop)
			}
		}
		stopping.Wait()
	}
}
