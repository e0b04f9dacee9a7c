package admin

import (
	"testing"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

func TestCulpritOf(t *testing.T) {
	for failure, want := range map[stats.Failure]culprit{
		{SQLSTATE: "28000", Reason: pgwire.NoToken}:                       culpritCredentials,
		{SQLSTATE: "28000", Reason: pgwire.Reason(auth.ReasonSSOExpired)}: culpritCredentials,
		{SQLSTATE: "57P03", Reason: pgwire.TokenTimeout}:                  culpritCredentials,
		{SQLSTATE: "53300", Reason: pgwire.TooManySessions}:               culpritProxy,
		{SQLSTATE: "57P03", Reason: pgwire.QueueFull}:                     culpritProxy,
		{SQLSTATE: "57P03", Reason: pgwire.FileDescriptorsUsedUp}:         culpritProxy,
		{SQLSTATE: "57P03", Reason: pgwire.DialRefused}:                   culpritNetwork,
		{SQLSTATE: "08001", Reason: pgwire.TLSUntrusted}:                  culpritNetwork,
		{SQLSTATE: "08006", Reason: pgwire.ServerRefused}:                 culpritNetwork,
		{SQLSTATE: "28000", Reason: pgwire.PasswordRequested}:             culpritDatabase,
		{SQLSTATE: "28000", Reason: pgwire.TokenRefused}:                  culpritDatabase,
		{SQLSTATE: "57P03", Reason: pgwire.NotWritable}:                   culpritDatabase,
		{SQLSTATE: "08P01", Reason: pgwire.MessageInvalid}:                culpritDatabase,
		{SQLSTATE: "3D000", Reason: pgwire.ServerRefused}:                 culpritDatabase,
		{SQLSTATE: "53300", Reason: pgwire.ServerRefused}:                 culpritDatabase,
		{SQLSTATE: "0A000", Reason: pgwire.ServerRefused}:                 culpritClient,
		{SQLSTATE: "08P01", Reason: pgwire.HTTPRequest}:                   culpritClient,
		{SQLSTATE: "28000", Reason: pgwire.ClientAddressNotAllowed}:       culpritClient,
		{SQLSTATE: "57P03", Reason: pgwire.ShuttingDown}:                  culpritClient,
	} {
		if got := culpritOf(failure); got != want {
			t.Errorf("%s %s: got %d, want %d", failure.SQLSTATE, failure.Reason, got, want)
		}
	}
}

// culpritOf relies on that.
func TestReasonsAreDistinct(t *testing.T) {
	for reason := range pgwire.Reasons() {
		if auth.IsReason(string(reason)) {
			t.Errorf("%s is a reason of both pgwire and auth", reason)
		}
	}
}
