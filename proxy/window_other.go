//go:build !linux

package proxy

import "net"

// adjustUserTimeout does nothing where there is no such timeout: keep-alives
// alone tell that a server has vanished.
func adjustUserTimeout(net.Conn) bool { return false }

func (s *socket) checkWindow() {}
