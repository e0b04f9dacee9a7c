package proxy

// arrived takes note of what the server has said while it was idle, without waiting
// for more. The error is that of a connection that has ended, or will in a moment.
func (u *upstream) arrived() error {
	framing := &u.spare.framing
	if err := u.DrainPending(framing.scan); err != nil {
		return err
	}
	if !framing.idle() {
		return errNotReady
	}
	return nil
}
