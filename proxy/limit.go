package proxy

import (
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
)

// Limit is how many clients one or more proxies let in at once, those that are being
// logged in included. It is to be shared by pointer.
type Limit struct {
	Max int // must be more than 0

	taken atomic.Int64
}

// take reports whether there was room for one more. A nil Limit is none.
func (l *Limit) take() bool {
	if l == nil {
		return true
	}
	if l.taken.Add(1) > int64(l.Max) {
		l.taken.Add(-1)
		return false
	}
	return true
}

func (l *Limit) giveBack() {
	if l != nil {
		l.taken.Add(-1)
	}
}

// allowed reports whether a client may connect from where it does. Of a unix socket
// its mode has decided that.
func (p *Proxy) allowed(client net.Addr) bool {
	tcp, ok := client.(*net.TCPAddr)
	if !ok || p.AllowFrom == nil {
		return true
	}
	address := tcp.AddrPort().Addr().Unmap().WithZone("")
	return slices.ContainsFunc(p.AllowFrom, func(prefix netip.Prefix) bool { return prefix.Contains(address) })
}
