package peercred

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// The hint depends on what is known of the user. User 65534 must not be added to --allow-user.
func TestUsersCheck(t *testing.T) {
	users := Users{1000: true}
	if err := users.check(1000, nil); err != nil {
		t.Errorf("an allowed user is rejected: %v", err)
	}
	hints := make(map[string]bool)
	for _, test := range []struct {
		id  uint32
		err error
	}{
		{id: 1001},
		{id: overflowID},
		{err: os.NewSyscallError("socket", syscall.EAFNOSUPPORT)},
		{err: errUnknown},
	} {
		err := users.check(test.id, test.err)
		advice, ok := errors.AsType[interface {
			error
			Advice() string
		}](err)
		if !ok || advice.Advice() == "" || hints[advice.Advice()] {
			t.Errorf("%d, %v: got %v, without a hint of its own", test.id, test.err, err)
			continue
		}
		hints[advice.Advice()] = true
		if test.err != nil && !errors.Is(err, test.err) {
			t.Errorf("%v does not wrap %v", err, test.err)
		}
	}
	if err := (Users{overflowID: true}).check(overflowID, nil); err != nil {
		t.Errorf("user 65534 is allowed, and rejected: %v", err)
	}
}
