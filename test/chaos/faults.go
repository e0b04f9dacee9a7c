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

// faults returns all faults but those of the clock, in the order of the trials.
func faults() []fault {
	cut := netem.Conditions{CutUp: true, CutDown: true}
	const oneDirection = "No packets in one direction for 5 s"
	all := []fault{
		{group: ofDatabase, name: "Database killed (SIGKILL), then started", hold: 2 * time.Second, begin: killServer, end: startServer},
		{group: ofDatabase, name: "Database stopped, then started", hold: 2 * time.Second, begin: stopServer, end: startServer},
		{group: ofDatabase, name: "Database restarted", begin: startServer, end: nothing},
		{group: ofDatabase, name: "Database frozen (SIGSTOP) for 5 s", hold: 5 * time.Second, begin: freezeServer, end: thawServer, spares: true},
		{group: ofNetwork, name: "No packets in either direction for 5 s", hold: 5 * time.Second, begin: conditions(cut), end: clear, spares: true},
		{group: ofNetwork, name: "No packets in either direction for 30 s", hold: 30 * time.Second, begin: conditions(cut), end: clear},
		{group: ofNetwork, row: oneDirection, name: "No packets to the database for 5 s", hold: 5 * time.Second, begin: conditions(netem.Conditions{CutUp: true}), end: clear, spares: true},
		{group: ofNetwork, row: oneDirection, name: "No packets from the database for 5 s", hold: 5 * time.Second, begin: conditions(netem.Conditions{CutDown: true}), end: clear, spares: true},
		{group: ofNetwork, name: "Delay of 300 ms and loss of 5 % for 10 s", hold: 10 * time.Second, begin: conditions(netem.Conditions{Delay: 150 * time.Millisecond, Loss: .05}), end: clear, spares: true},
		{group: ofNetwork, name: "1 of 20 packets resets its connection for 5 s", hold: 5 * time.Second, begin: conditions(netem.Conditions{Reset: 1. / 20}), end: clear},
		// The resolver repeats a lost query after 5 s (timeout in resolv.conf(5)); one may have
		// been lost just before the end.
		{group: ofDNS, name: "DNS server does not answer for 5 s", hold: 5 * time.Second, begin: dns(dnsmessage.RCodeSuccess, time.Hour), end: dns(dnsmessage.RCodeSuccess, 0), backWithin: 6 * time.Second},
		{group: ofDNS, name: "DNS server answers SERVFAIL for 5 s", hold: 5 * time.Second, begin: dns(dnsmessage.RCodeServerFailure, 0), end: dns(dnsmessage.RCodeSuccess, 0)},
		{group: ofDNS, name: "DNS server answers NXDOMAIN for 5 s", hold: 5 * time.Second, begin: dns(dnsmessage.RCodeNameError, 0), end: dns(dnsmessage.RCodeSuccess, 0)},
		{group: ofDNS, name: "DNS server takes 2 s to answer", hold: 6 * time.Second, begin: dns(dnsmessage.RCodeSuccess, 2*time.Second), end: dns(dnsmessage.RCodeSuccess, 0), spares: true},
	}
	for _, f := range []struct {
		name  string
		fault fakeaws.Fault
	}{
		{"closes connections", fakeaws.Fault{Cut: true}},
		{"returns status 500", fakeaws.Fault{Status: http.StatusInternalServerError, Body: "{}"}},
		{"returns status 429", fakeaws.Fault{Status: http.StatusTooManyRequests}},
		{"returns malformed data", fakeaws.Fault{Status: http.StatusOK, Body: "\x00<html>"}},
		{"returns no data", fakeaws.Fault{Status: http.StatusOK}},
		{"returns expired credentials", fakeaws.Fault{Status: http.StatusOK, Body: expiredKeys}},
		{"does not answer", fakeaws.Fault{Delay: time.Hour}},
	} {
		all = append(all, fault{group: ofCredentials, row: "Endpoint fails for 15 s, in seven ways", name: "Endpoint " + f.name + " for 15 s", hold: keyLife + 3*time.Second, begin: credentials(f.fault), end: credentials(fakeaws.Fault{})})
	}
	return append(all,
		fault{group: ofCredentials, name: "Endpoint takes 2 s to answer", hold: keyLife + 3*time.Second, begin: credentials(fakeaws.Fault{Delay: 2 * time.Second}), end: credentials(fakeaws.Fault{}), spares: true},
		fault{group: ofHost, name: "Disk of the log full for 3 s", hold: 3 * time.Second, begin: fillDisk, end: emptyDisk, spares: true},
		fault{group: ofHost, name: "No free file descriptors for 3 s", hold: 3 * time.Second, begin: fewDescriptors, end: manyDescriptors},
		fault{group: ofHost, name: fmt.Sprintf("%d clients connect and send nothing for 10 s", silentClients), hold: 10 * time.Second, begin: sendSilent, end: callBackSilent, spares: true},
		fault{group: ofHost, name: fmt.Sprintf("%d clients request 100 MB and read nothing for 5 s", frozenClients), hold: 5 * time.Second, begin: freezeClients, end: thawClients, spares: true},
		fault{group: ofHost, name: "iamproxy frozen (SIGSTOP) for 3 s", hold: 3 * time.Second, begin: freezeProxy, end: thawProxy, spares: true},
	)
}

// clockFaults returns the faults that need longer credentials: if the database's clock is
// ahead, short ones have expired.
func clockFaults() []fault {
	return []fault{
		{group: ofClock, row: "Database's clock wrong by 20 minutes for 5 s", name: "Database's clock 20 minutes ahead for 5 s", hold: 5 * time.Second, begin: clock(20 * time.Minute), end: clock(0)},
		{group: ofClock, row: "Database's clock wrong by 20 minutes for 5 s", name: "Database's clock 20 minutes behind for 5 s", hold: 5 * time.Second, begin: clock(-20 * time.Minute), end: clock(0)},
		{group: ofClock, name: "Database's clock 2 minutes behind for 5 s", hold: 5 * time.Second, begin: clock(-2 * time.Minute), end: clock(0), spares: true},
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
