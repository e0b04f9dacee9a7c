package peercred

import (
	"errors"
	"fmt"
	"net"
	"os/user"
	"strconv"
	"strings"
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
	return fmt.Errorf("--allow-user: this system does not report the user of a client at %s; listen on a unix socket instead, and use --socket-mode", address)
}

// Check returns an error if the user of a client is not in the set, or is unknown.
func (u Users) Check(client net.Conn) error {
	id, err := User(client)
	if err == nil && u[id] {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("connections from processes of user %d are not allowed", id)
	}
	return notAllowedError{err}
}

type notAllowedError struct{ error }

// Advice returns the hint for the client.
func (notAllowedError) Advice() string {
	return "If this user may use the database, add it to --allow-user."
}

func (e notAllowedError) Unwrap() error { return e.error }
