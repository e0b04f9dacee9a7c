package console

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/internal/text"
)

// readyInterval is the pause between two checks of credentials that are missing.
const readyInterval = time.Second

// callerTimeout bounds the wait for the answer of STS before "Ready" is printed.
const callerTimeout = 2 * time.Second

// Signer is the part of *auth.Identity that PrintReady uses.
type Signer interface {
	Ready(ctx context.Context) error
	Status() auth.IdentityStatus
}

// PrintReady prints whether clients can log in: once callersLogged is closed, and when missing
// credentials have been fetched.
func PrintReady(ctx context.Context, log *zap.Logger, signers []Signer, callersLogged <-chan struct{}) {
	select {
	case <-callersLogged:
	case <-time.After(callerTimeout):
	}
	missing := missingCredentials(ctx, signers)
	switch {
	case ctx.Err() != nil:
		return
	case missing == nil:
		logging.Print(log, zap.InfoLevel, "Ready. Ctrl-C to stop.")
		return
	}
	logging.Print(log, zap.WarnLevel, "Not ready: "+text.OneLine(missing.Error()))
	var explained *auth.Error
	if errors.As(missing, &explained) && explained.Hint != "" {
		logging.Print(log, zap.WarnLevel, "  -> "+text.OneLine(explained.ClientAdvice()))
	}
	logging.Print(log, zap.InfoLevel, "Ctrl-C to stop.")
	ticker := time.NewTicker(readyInterval)
	defer ticker.Stop()
	for slices.ContainsFunc(signers, lacksCredentials) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
	logging.Print(log, zap.InfoLevel, "Ready.")
}

// missingCredentials returns the error of the first signer without valid credentials.
func missingCredentials(ctx context.Context, signers []Signer) error {
	for _, signer := range signers {
		if err := cmp.Or(signer.Ready(ctx), signer.Status().Rejected); err != nil {
			return err
		}
	}
	return nil
}

// lacksCredentials reports whether the last attempt to fetch credentials has failed, or AWS
// rejects them. It sends no request.
func lacksCredentials(signer Signer) bool {
	status := signer.Status()
	return status.Err != nil || status.Rejected != nil
}
