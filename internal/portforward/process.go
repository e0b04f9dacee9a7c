package portforward

func (p *process) wait() {
	_ = p.cmd.Wait() // the state says the same
	close(p.gone)
}

func (p *process) isGone() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// end is how the program has ended.
func (p *process) end() string {
	if !p.isGone() {
		return "it could not be ended"
	}
	return p.cmd.ProcessState.String()
}

// succeeded reports whether it has ended, and says that all went well.
func (p *process) succeeded() bool { return p.isGone() && p.cmd.ProcessState.Success() }
