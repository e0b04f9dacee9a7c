//go:build !linux

package netconn

import "net"

// rawIO is always disabled on this system.
type rawIO struct{}

func (rawIO) init(net.Conn)                   {}
func (rawIO) enabled() bool                   { return false }
func (rawIO) filled() bool                    { return false }
func (rawIO) atEOF() bool                     { return false }
func (rawIO) wait() error                     { return nil }
func (rawIO) poll() (arrived bool, err error) { return false, nil }
func (rawIO) take([]byte) (int, error)        { return 0, nil }
func (rawIO) write([]byte) (int, error)       { return 0, nil }
