package main

import (
	"fmt"
	"net"
	"os/user"
	"strconv"
	"strings"

	"github.com/iamproxy/iamproxy/internal/peercred"
)

// users are those of this host whose processes may connect; nil: everybody's.
type users map[uint32]bool

// parseAllowUser reads names and numbers of users. A name has to be one now, since what is
// known by it is the number.
func parseAllowUser(texts []string) (allowed users, err error) {
	if texts != nil && len(texts) == 0 {
		return nil, usagef("--allow-user is empty: nobody could connect; leave it out, or say who may")
	}
	for _, text := range texts {
		text = strings.TrimSpace(text)
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			known, lookupErr := user.Lookup(text)
			if lookupErr != nil {
				return nil, usagef("--allow-user %q: there is no such user here; its number can be given instead", text)
			}
			if id, err = strconv.ParseUint(known.Uid, 10, 32); err != nil {
				return nil, usagef("--allow-user %s: users have no numbers on this system", text)
			}
		}
		if allowed == nil {
			allowed = make(users)
		}
		allowed[uint32(id)] = true
	}
	return allowed, nil
}

// knowable is the error of a listener of whose clients the system does not tell.
func (u users) knowable(at listenAddress) error {
	if u == nil || peercred.Known(at.network()) {
		return nil
	}
	return usagef("--allow-user: this system does not tell whose processes connect to %s; use a unix socket, if it has them, and its mode", at)
}

// check is why a client may not connect.
func (u users) check(client net.Conn) error {
	id, err := peercred.User(client)
	if err == nil && u[id] {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("processes of user %d may not connect", id)
	}
	return otherUser{err}
}

// otherUser is the error of who may not connect.
type otherUser struct{ error }

func (otherUser) Advice() string { return "--allow-user has the users of this host that may" }

func (e otherUser) Unwrap() error { return e.error }
