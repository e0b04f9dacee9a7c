package admin

import (
	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// culprit is the component that a failure points to.
type culprit int

const (
	culpritDatabase culprit = iota
	culpritNetwork
	culpritCredentials
	culpritProxy
	culpritClient // not a component: the page shows such failures in the table only
)

// culpritOf classifies a failure by its reason. It classifies an ErrorResponse of the server
// by its SQLSTATE.
func culpritOf(f stats.Failure) culprit {
	if auth.IsReason(string(f.Reason)) {
		return culpritCredentials
	}
	switch f.Reason {
	case pgwire.NoToken, pgwire.TokenTimeout:
		return culpritCredentials

	case pgwire.TooManySessions, pgwire.TooManyPending, pgwire.QueueFull, pgwire.FileDescriptorsUsedUp:
		return culpritProxy

	case pgwire.ResolveFailed, pgwire.DialRefused, pgwire.DialFailed, pgwire.SOCKSRefused, pgwire.NoAnswer,
		pgwire.ConnectionClosed, pgwire.ConnectionBroken,
		pgwire.SSMTargetUnavailable, pgwire.SSMAccessDenied, pgwire.SSMAgentUnsupported, pgwire.SSMUnreachable, pgwire.SSMConnectFailed, pgwire.SSMSessionEnded,
		pgwire.TLSNotOffered, pgwire.TLSRequestRejected, pgwire.TLSRequestUnknown, pgwire.TLSFailed, pgwire.TLSWrongName,
		pgwire.TLSUntrusted, pgwire.TLSExpired, pgwire.TLSCertificateBad, pgwire.TLSDirectNotOffered:
		return culpritNetwork

	case pgwire.TokenRefused, pgwire.LoginNotPermitted, pgwire.DSQLAccessDenied, pgwire.ProxySecretMissing, pgwire.ProxyIAMNotAllowed, pgwire.ProxyThrottled,
		pgwire.PasswordRequested, pgwire.PasswordRepeated, pgwire.AuthRequestInvalid,
		pgwire.NotWritable, pgwire.WritableUnknown, pgwire.WritableInvalid,
		pgwire.MessageInvalid, pgwire.MessagesTooLong, pgwire.ErrorInvalid, pgwire.ErrorWithoutCode:
		return culpritDatabase

	case pgwire.ServerRefused:
		switch f.SQLSTATE {
		case pgwire.CannotConnect, pgwire.ConnectionFailure:
			return culpritNetwork
		case pgwire.ProtocolViolation, pgwire.FeatureNotSupported:
			return culpritClient
		}
		return culpritDatabase
	}
	return culpritClient // its startup packet, its address, or a connection during shutdown
}

// lastFailure returns the newest failure that points to c, or the zero value.
func lastFailure(failures []stats.Failure, c culprit) (last stats.Failure) {
	for _, f := range failures {
		if culpritOf(f) == c && f.Last.After(last.Last) {
			last = f
		}
	}
	return last
}
