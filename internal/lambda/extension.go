// Package lambda runs iamproxy as an external extension of AWS Lambda.
package lambda

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
)

const (
	// directory holds the extensions. Lambda starts each file in it without arguments.
	directory = "/opt/extensions"
	// runtimeAPI is the variable with the address of the Extensions API.
	runtimeAPI = "AWS_LAMBDA_RUNTIME_API"
)

// Extension is this process as an extension. It receives no invocations: the function connects
// to it as to any server.
type Extension struct{ client *client }

// Detect returns the extension if Lambda has started this process as one, and nil otherwise. args
// are the arguments of the process, with the program. executable is its path, or empty.
func Detect(args []string, executable string, getenv func(string) string) *Extension {
	address := getenv(runtimeAPI)
	if address == "" || len(args) != 1 || !isExtension(args[0]) && !isExtension(executable) {
		return nil
	}
	return &Extension{newClient(address, filepath.Base(args[0]))}
}

// isExtension reports whether a program is in the directory of extensions. The emulator of AWS
// passes the whole path as the first argument of a program. AWS does not document that.
func isExtension(program string) bool {
	return filepath.ToSlash(filepath.Dir(program)) == directory
}

// Serve is a server that Run starts. It calls ready once, when clients can connect and get a
// token, and returns after ctx is done and its sessions have ended.
type Serve func(ctx context.Context, ready func()) error

// Run runs serve until Lambda ends the execution environment. Lambda starts the function after all
// extensions have registered, so the extension registers when serve is ready: the first line of
// the function can connect. Run reports an error of serve to Lambda, and returns it. It returns
// nil only after the SHUTDOWN event: Lambda counts any other exit as a crash.
func (e *Extension) Run(ctx context.Context, serve Serve) error {
	serving, shutdown := context.WithCancel(ctx)
	defer shutdown()
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- serve(serving, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-ended:
		return e.failInit(ctx, err)
	}
	if err := e.client.register(ctx); err != nil {
		shutdown()
		return errors.Join(fmt.Errorf("could not register with the Extensions API of Lambda: %w", err), <-ended)
	}
	waited := make(chan error, 1)
	go func() { waited <- e.waitShutdown(serving) }()
	select {
	case err := <-waited:
		shutdown()
		if served := <-ended; err == nil {
			return served
		}
		return e.failExit(ctx, err)
	case err := <-ended:
		return e.failExit(ctx, err)
	}
}

// waitShutdown waits for the SHUTDOWN event.
func (e *Extension) waitShutdown(ctx context.Context) error {
	for {
		event, err := e.client.next(ctx)
		if err != nil {
			return fmt.Errorf("could not get the next event of Lambda: %w", err)
		}
		if event == shutdownEvent {
			return nil
		}
	}
}

// errEnded is the error of a server that ended without an error before the SHUTDOWN event.
var errEnded = errors.New("ended before the SHUTDOWN event of Lambda")

// failInit reports that serve could not start. Only a registered extension can report an error.
func (e *Extension) failInit(ctx context.Context, cause error) error {
	if cause == nil {
		cause = errEnded
	}
	err := e.client.register(ctx)
	if err == nil {
		err = e.client.reportInitError(ctx, startFailed, cause)
	}
	return withReport(cause, err)
}

// failExit reports that serve ended before the SHUTDOWN event.
func (e *Extension) failExit(ctx context.Context, cause error) error {
	if cause == nil {
		cause = errEnded
	}
	return withReport(cause, e.client.reportExitError(ctx, unexpectedExit, cause))
}

// withReport returns cause, and the error of its report to Lambda if there is one.
func withReport(cause, report error) error {
	if report == nil {
		return cause
	}
	return fmt.Errorf("%w (it could not be reported to Lambda: %w)", cause, report)
}
