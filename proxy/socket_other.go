//go:build !linux

package proxy

import "net"

// descriptor is not used on this system.
type descriptor struct{}

func (descriptor) init(net.Conn) {}

func (descriptor) setAwaited(bool) {}
func (descriptor) await() error    { return nil }

// poll is not to be called here.
func (descriptor) poll() (arrived bool, err error) { return true, nil }
func (descriptor) canPoll() bool                   { return false }
func (descriptor) atEnd() bool                     { return false }
