package endpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/internal/text"
)

// Identities loads the AWS identities of endpoints. Endpoints with the same Signer share one.
type Identities struct {
	Log *zap.Logger // may be nil

	loaded   map[Signer]*auth.Identity
	sessions map[string]*auth.Identity // by profile, unless they are in loaded
}

// Load returns the identity that signs for an endpoint.
func (i *Identities) Load(ctx context.Context, e Endpoint) (*auth.Identity, error) {
	if identity := i.loaded[e.Signer]; identity != nil {
		return identity, nil
	}
	identity, err := i.load(ctx, e.Signer, e.Region)
	if err != nil {
		return nil, err
	}
	if i.loaded == nil {
		i.loaded = make(map[Signer]*auth.Identity)
	}
	i.loaded[e.Signer] = identity
	return identity, nil
}

// loadSession returns the identity that opens a session. It is that of an endpoint if that has the
// same credentials. LogCallers does not log it, since it signs no tokens.
func (i *Identities) loadSession(ctx context.Context, s Session) (*auth.Identity, error) {
	signer := Signer{Profile: s.Profile}
	if identity := cmp.Or(i.loaded[signer], i.sessions[s.Profile]); identity != nil {
		return identity, nil
	}
	identity, err := i.load(ctx, signer, s.Region)
	if err != nil {
		return nil, err
	}
	if i.sessions == nil {
		i.sessions = make(map[string]*auth.Identity)
	}
	i.sessions[s.Profile] = identity
	return identity, nil
}

func (i *Identities) load(ctx context.Context, signer Signer, region string) (*auth.Identity, error) {
	identity := &auth.Identity{
		Profile:    signer.Profile,
		Roles:      splitRoles(signer.AssumeRole),
		ExternalID: signer.ExternalID,
		Region:     region,
		Log:        i.Log,
	}
	if err := identity.Load(ctx); err != nil {
		return nil, fmt.Errorf("AWS configuration: %w", text.WithAdvice(err))
	}
	return identity, nil
}

// splitRoles splits before each ARN, since the name of a role may contain commas. It keeps an
// empty part, for auth.Identity.Load to reject: it comes from an unset variable.
func splitRoles(list string) (roles []string) {
	if list == "" {
		return nil
	}
	for n, role := range arnAfterComma().Split(list, -1) {
		if n > 0 {
			role = "arn:" + role
		}
		roles = append(roles, role)
	}
	return roles
}

var arnAfterComma = text.Regexp(`,\s*arn:`)

// fetchTimeout limits Fetch. Lambda allows ten seconds for the start of an execution environment.
const fetchTimeout = 3 * time.Second

// Fetch fetches the credentials of each identity, so that the first login does not wait for them.
// A failure has no consequences: clients get the error.
func (i *Identities) Fetch(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	for _, identity := range i.loaded {
		if err := identity.Ready(ctx); err != nil {
			i.Log.Warn("no AWS credentials yet", zap.Error(err))
		}
	}
}

// LogCallers logs the ARN of each identity, and then watches the verdict of AWS about its
// credentials until ctx is done. A failure has no consequences: without credentials the first
// client gets an error, and many networks block STS. The returned channel is closed when each
// identity is logged, or has failed.
func (i *Identities) LogCallers(ctx context.Context) (logged <-chan struct{}) {
	var all sync.WaitGroup
	for signer, identity := range i.loaded {
		log := i.Log.With(logging.OptionalString("profile", signer.Profile), logging.OptionalString("assume_role", signer.AssumeRole))
		all.Add(1)
		signing := func(caller auth.Caller) {
			log.Info("signing", zap.String("as", caller.ARN), zap.String("credentials", identity.Source().String()),
				logging.TextForConsole(signingLine(caller, identity)))
		}
		go func() {
			caller := logCaller(ctx, log, identity, signing)
			all.Done()
			identity.Watch(ctx, caller, signing)
		}()
	}
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	return done
}

// logCaller calls signing with the owner of the credentials, and returns it. It logs that there
// is none.
func logCaller(ctx context.Context, log *zap.Logger, identity *auth.Identity, signing func(auth.Caller)) auth.Caller {
	caller, err := identity.Caller(ctx)
	var missing *auth.Error
	switch {
	case ctx.Err() != nil:
	case errors.As(err, &missing): // the console has the line of cmd that says whether clients can log in
		log.Warn("no AWS credentials yet", zap.Error(missing), logging.OptionalString("hint", missing.ClientAdvice()), logging.TextForConsole(""))
	case err != nil: // the identity logs a rejection
		log.Debug("STS did not return the identity", zap.Error(err))
	default:
		signing(caller)
		return caller
	}
	return auth.Caller{}
}

// signingLine returns the owner of the credentials, their source and their expiry.
func signingLine(caller auth.Caller, identity *auth.Identity) string {
	source := identity.Source().String()
	if expires := identity.Status().Expires; !expires.IsZero() {
		source += ", until " + expires.Local().Format("15:04")
	}
	return "  signing as   " + caller.ARN + "   (" + source + ")"
}
