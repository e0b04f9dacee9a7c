//go:build unix && !linux

package command

// killsChild reports that the kernel ends the command with this process.
const killsChild = false

// run starts the command and waits until it exits.
func (p *Process) run(started chan<- error) { p.wait(started) }
