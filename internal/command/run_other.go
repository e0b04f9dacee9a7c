//go:build unix && !linux

package command

// run starts the command and waits until it exits.
func (p *Process) run(started chan<- error) { p.wait(started) }
