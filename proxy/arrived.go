package proxy

// arrived tracks what the server has sent while it was idle, without waiting for more. The
// error is that of a connection that has ended, or will in a moment.
func (u *upstream) arrived() error {
	if err := u.DrainPending(u.spare.framing.Scan); err != nil {
		return err
	}
	if !u.spare.framing.Idle() {
		return errNotReady
	}
	return nil
}
