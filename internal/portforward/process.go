package portforward

func (p *process) wait() {
	_ = p.cmd.Wait() // ProcessState has the result
	close(p.exited)
}

func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// result describes how the program ended.
func (p *process) result() string {
	if !p.hasExited() {
		return "it could not be stopped"
	}
	return p.cmd.ProcessState.String()
}

// succeeded reports whether the program has exited with status 0.
func (p *process) succeeded() bool { return p.hasExited() && p.cmd.ProcessState.Success() }
