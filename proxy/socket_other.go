//go:build !linux

package proxy

import "net"

// descriptor is not used on this system.
type descriptor struct{}

func (descriptor) init(net.Conn) {}

func (descriptor) setAwaited(bool) {}
func (descriptor) await() error    { return nil }
