//go:build linux

package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/fakeaws"
	"github.com/iamproxy/iamproxy/test/netem"
)

// faults are all faults, in the order of the trials.
func faults() []fault {
	all := []fault{
		{name: "server killed (SIGKILL), started again", hold: 2 * time.Second, begin: killServer, end: startServer},
		{name: "server stopped, started again", hold: 2 * time.Second, begin: stopServer, end: startServer},
		{name: "server restarted", begin: startServer, end: nothing},
		{name: "server frozen (SIGSTOP) for 5 s", hold: 5 * time.Second, begin: freezeServer, end: thawServer, spares: true},
		{name: "network cut both ways for 5 s", hold: 5 * time.Second, begin: conditions(netem.Conditions{CutUp: true, CutDown: true}), end: clear, spares: true},
		{name: "network cut both ways for 30 s", hold: 30 * time.Second, begin: conditions(netem.Conditions{CutUp: true, CutDown: true}), end: clear},
		{name: "network cut towards the server for 5 s", hold: 5 * time.Second, begin: conditions(netem.Conditions{CutUp: true}), end: clear, spares: true},
		{name: "network cut from the server for 5 s", hold: 5 * time.Second, begin: conditions(netem.Conditions{CutDown: true}), end: clear, spares: true},
		{name: "300 ms and 5 % loss for 10 s", hold: 10 * time.Second, begin: conditions(netem.Conditions{Delay: 150 * time.Millisecond, Loss: .05}), end: clear, spares: true},
		{name: "connections reset on their way, one for every 20 packets, for 5 s", hold: 5 * time.Second, begin: conditions(netem.Conditions{Reset: 1. / 20}), end: clear},
		// The resolver repeats a lost query after 5 s (timeout in resolv.conf(5)); one may have
		// been lost just before the end.
		{name: "DNS without an answer for 5 s", hold: 5 * time.Second, begin: dns(dnsmessage.RCodeSuccess, time.Hour), end: dns(dnsmessage.RCodeSuccess, 0), backWithin: 6 * time.Second},
		{name: "DNS says SERVFAIL for 5 s", hold: 5 * time.Second, begin: dns(dnsmessage.RCodeServerFailure, 0), end: dns(dnsmessage.RCodeSuccess, 0)},
		{name: "DNS does not know the name for 5 s", hold: 5 * time.Second, begin: dns(dnsmessage.RCodeNameError, 0), end: dns(dnsmessage.RCodeSuccess, 0)},
		{name: "DNS takes 2 s to answer", hold: 6 * time.Second, begin: dns(dnsmessage.RCodeSuccess, 2*time.Second), end: dns(dnsmessage.RCodeSuccess, 0), spares: true},
	}
	for _, f := range []struct {
		name  string
		fault fakeaws.Fault
	}{
		{"cuts off", fakeaws.Fault{Cut: true}},
		{"says 500", fakeaws.Fault{Status: http.StatusInternalServerError, Body: "{}"}},
		{"says 429", fakeaws.Fault{Status: http.StatusTooManyRequests}},
		{"answers with garbage", fakeaws.Fault{Status: http.StatusOK, Body: "\x00<html>"}},
		{"answers with nothing", fakeaws.Fault{Status: http.StatusOK}},
		{"answers with keys that have expired", fakeaws.Fault{Status: http.StatusOK, Body: expiredKeys}},
		{"does not answer", fakeaws.Fault{Delay: time.Hour}},
	} {
		all = append(all, fault{name: "credentials endpoint " + f.name + " for 15 s", hold: keyLife + 3*time.Second, begin: credentials(f.fault), end: credentials(fakeaws.Fault{})})
	}
	return append(all,
		fault{name: "credentials endpoint takes 2 s to answer", hold: keyLife + 3*time.Second, begin: credentials(fakeaws.Fault{Delay: 2 * time.Second}), end: credentials(fakeaws.Fault{}), spares: true},
		fault{name: "disk of the log full for 3 s", hold: 3 * time.Second, begin: fillDisk, end: emptyDisk, spares: true},
		fault{name: "file descriptors used up for 3 s", hold: 3 * time.Second, begin: fewDescriptors, end: manyDescriptors},
		fault{name: fmt.Sprintf("%d clients connect and say nothing, for 10 s", silentClients), hold: 10 * time.Second, begin: sendSilent, end: callBackSilent, spares: true},
		fault{name: fmt.Sprintf("%d clients ask for 100 MB and read nothing for 5 s", frozenClients), hold: 5 * time.Second, begin: freezeClients, end: thawClients, spares: true},
		fault{name: "iamproxy itself frozen for 3 s", hold: 3 * time.Second, begin: freezeProxy, end: thawProxy, spares: true},
	)
}

// clockFaults are the faults that need longer credentials: if the database's clock is
// ahead, short ones have expired.
func clockFaults() []fault {
	return []fault{
		{name: "database's clock 20 minutes ahead for 5 s", hold: 5 * time.Second, begin: clock(20 * time.Minute), end: clock(0)},
		{name: "database's clock 20 minutes behind for 5 s", hold: 5 * time.Second, begin: clock(-20 * time.Minute), end: clock(0)},
		{name: "database's clock 2 minutes behind for 5 s", hold: 5 * time.Second, begin: clock(-2 * time.Minute), end: clock(0), spares: true},
	}
}

// expiredKeys are well-formed.
const expiredKeys = `{"AccessKeyId": "ASIAEXAMPLEEXAMPLE00", "SecretAccessKey": "none", "Token": "none", "Expiration": "2020-01-01T00:00:00Z"}`

func nothing(context.Context, *place) error { return nil }

func killServer(_ context.Context, p *place) error { return p.cluster.Kill() }

func stopServer(ctx context.Context, p *place) error { return p.cluster.Stop(ctx, aurora.Fast) }

// startServer returns when the server accepts logins: its recovery is not iamproxy's.
func startServer(ctx context.Context, p *place) error { return p.cluster.Restart(ctx) }

func freezeServer(_ context.Context, p *place) error { return p.cluster.Freeze() }

func thawServer(_ context.Context, p *place) error { return p.cluster.Thaw() }

func conditions(c netem.Conditions) func(context.Context, *place) error {
	return func(_ context.Context, p *place) error {
		p.link.SetConditions(c)
		return nil
	}
}

func clear(_ context.Context, p *place) error {
	p.link.SetConditions(netem.Conditions{})
	return nil
}

func dns(rcode dnsmessage.RCode, delay time.Duration) func(context.Context, *place) error {
	return func(_ context.Context, p *place) error {
		p.names.set(rcode, delay)
		return nil
	}
}

func credentials(f fakeaws.Fault) func(context.Context, *place) error {
	return func(_ context.Context, p *place) error {
		p.aws.SetFault(f)
		return nil
	}
}

// clock sets the clock by which tokens are verified ahead of iamproxy's.
func clock(ahead time.Duration) func(context.Context, *place) error {
	return func(_ context.Context, p *place) error {
		p.cluster.SetClock(func() time.Time { return time.Now().Add(ahead) })
		return nil
	}
}
