package peercred

import (
	"errors"
	"fmt"
	"net"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// Users is a set of user IDs of this host. A nil set contains every user.
type Users map[uint32]bool

// ParseUsers parses names and numbers of users. A name must exist: it is replaced by its number.
func ParseUsers(texts []string) (users Users, err error) {
	if texts != nil && len(texts) == 0 {
		return nil, errors.New("--allow-user is empty, so no client could connect; leave it out, or list users")
	}
	for _, text := range texts {
		text = strings.TrimSpace(text)
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			found, lookupErr := user.Lookup(text)
			if lookupErr != nil {
				return nil, fmt.Errorf("--allow-user %q: this host has no such user; a number can be given instead", text)
			}
			if id, err = strconv.ParseUint(found.Uid, 10, 32); err != nil {
				return nil, fmt.Errorf("--allow-user %s: users have no numbers on this system", text)
			}
		}
		if users == nil {
			users = make(Users)
		}
		users[uint32(id)] = true
	}
	return users, nil
}

// Validate returns an error if peer credentials are unavailable for a listener.
func (u Users) Validate(network, address string) error {
	if u == nil || Supported(network) {
		return nil
	}
	advice := "; listen on a unix socket instead, and use --socket-mode"
	if !supportsUnix {
		advice = ""
	}
	return fmt.Errorf("--allow-user: this system does not report the user of a client at %s%s", address, advice)
}

// Check returns an error if the user of a client is not in the set, or is unknown.
func (u Users) Check(client net.Conn) error {
	return u.check(User(client))
}

// overflowID is the user that Linux reports for all users outside the process's user namespace.
const overflowID = 65534

// check returns an error if a user is not in the set, or if it could not be determined.
func (u Users) check(id uint32, err error) error {
	switch {
	case errors.Is(err, syscall.EAFNOSUPPORT):
		return notAllowedError{err, "iamproxy may not open netlink sockets. In its systemd unit, add AF_NETLINK to RestrictAddressFamilies."}
	case err != nil:
		return notAllowedError{err, "Connect from this host, or start iamproxy without --allow-user."}
	case u[id]:
		return nil
	}
	hint := "If this user may use the database, add it to --allow-user."
	if id == overflowID {
		hint = "User 65534 stands for all users of other user namespaces. Do not allow it. If iamproxy is a systemd service, set PrivateUsers=no in its unit."
	}
	return notAllowedError{fmt.Errorf("connections from processes of user %d are not allowed", id), hint}
}

type notAllowedError struct {
	error
	hint string
}

// Advice returns the hint for the client.
func (e notAllowedError) Advice() string { return e.hint }

func (e notAllowedError) Unwrap() error { return e.error }
