//go:build !linux

package netconn

// Watched is one of two connections that a loop relays to each other.
type Watched struct {
	Conn     *Conn
	Readable func() (more bool)
}

// Watch reports false: this system has no event loop.
func Watch(_, _ Watched, _ func()) bool { return false }

// loopSocket is never active on this system.
type loopSocket struct{}

func (loopSocket) active() bool              { return false }
func (loopSocket) write([]byte) (int, error) { return 0, nil }
func (loopSocket) close() error              { return nil }

// Congested reports false: writes wait.
func (*Socket) Congested() bool { return false }
