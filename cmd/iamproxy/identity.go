package main

import (
	"context"
	"errors"
	"regexp"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/auth"
)

// identities are those who sign, one for all endpoints that have the same.
type identities struct {
	log    *zap.Logger // may be nil
	loaded map[signer]*auth.Identity
}

// of returns who signs for an endpoint.
func (i *identities) of(ctx context.Context, e endpoint) (*auth.Identity, error) {
	if known := i.loaded[e.signer]; known != nil {
		return known, nil
	}
	identity := &auth.Identity{
		Profile:    e.signer.profile,
		Roles:      splitRoles(e.signer.assumeRole),
		ExternalID: e.signer.externalID,
		Region:     e.region,
		Log:        i.log,
	}
	if err := identity.Load(ctx); err != nil {
		return nil, usagef("AWS configuration: %w", err)
	}
	if i.loaded == nil {
		i.loaded = make(map[signer]*auth.Identity)
	}
	i.loaded[e.signer] = identity
	return identity, nil
}

// splitRoles splits before each ARN, since the name of a role may have commas. An
// empty part is left for Load to refuse: a variable was not set.
func splitRoles(text string) (roles []string) {
	if text == "" {
		return nil
	}
	for n, role := range arnBehindComma.Split(text, -1) {
		if n > 0 {
			role = "arn:" + role
		}
		roles = append(roles, role)
	}
	return roles
}

var arnBehindComma = regexp.MustCompile(`,\s*arn:`)

// announce writes down who signs, for whoever wonders. It is no condition for
// anything: without credentials the first client is told, and many networks do
// not let the question through.
func (i *identities) announce(ctx context.Context) {
	for signer, identity := range i.loaded {
		log := i.log.With(zap.String("profile", signer.profile), zap.String("assume_role", signer.assumeRole))
		caller, err := identity.Caller(ctx)
		var missing *auth.Error
		switch {
		case ctx.Err() != nil:
			return
		case errors.As(err, &missing):
			log.Warn("no AWS credentials so far", zap.Error(missing), zap.String("hint", missing.Hint))
		case err != nil:
			log.Debug("AWS does not say who signs", zap.Error(err))
		default:
			log.Info("signing", zap.String("as", caller.ARN), zap.String("credentials", identity.Source().String()))
		}
	}
}
