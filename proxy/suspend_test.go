package proxy

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/internal/age/agetest"
	"github.com/iamproxy/iamproxy/proxy/netconn"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

// A pending connection of before a suspension of the machine is past its grace period.
func TestPendingAfterSuspension(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	p := pendingConns{grace: time.Hour}
	p.init(1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	oldest := p.add(ctx, netconn.New(ours))
	agetest.Suspend(&oldest.since, p.grace)
	p.add(ctx, netconn.New(theirs))
	if p.remove(oldest) {
		t.Error("not evicted")
	}
}

// A warning of before a suspension of the machine does not suppress the next one.
func TestWarningAfterSuspension(t *testing.T) {
	var w warnings
	const reason = pgwire.ClientTLSFailed
	if !w.allow(reason) || w.allow(reason) {
		t.Error("want one warning")
	}
	last := w.last[reason]
	agetest.Suspend(&last, warnInterval)
	w.last[reason] = last
	if !w.allow(reason) {
		t.Error("no warning")
	}
}
