package server

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/iamproxy/iamproxy/internal/listen"
	"github.com/iamproxy/iamproxy/internal/peercred"
)

// firstSocketPort is the port in the name of the first private socket.
const firstSocketPort = 5432

// maxTempDir is the maximum length of the directory for temporary files in which the path of a
// socket fits into 103 bytes, the maximum of macOS: unix(4).
const maxTempDir = 103 - len("/iamproxy-0123456789/.s.PGSQL.65535")

// SocketDir returns the full path of a directory for ListenPrivately, which does not exist yet. It is
// in /tmp if the path of TMPDIR is too long for a socket.
func SocketDir() (string, error) {
	parent, err := filepath.Abs(os.TempDir())
	if err != nil {
		return "", err
	}
	if len(parent) > maxTempDir {
		parent = "/tmp"
	}
	return filepath.Join(parent, "iamproxy-"+rand.Text()[:10]), nil
}

// ListenPrivately adds addresses that only this user, and the users in AllowUser, can reach to each
// endpoint without an address: a unix socket in dir unless it is empty, and a port of the loopback
// interface if needsTCP returns true, or else if there is no socket. It creates dir if a socket is
// in it. The caller removes it.
func (c *Config) ListenPrivately(dir string, needsTCP func(endpoint int) bool) error {
	c.SocketMode = 0o600
	created := ""
	for i := range c.Addrs {
		if c.Addrs[i] != nil {
			continue
		}
		if dir != "" {
			if created == "" {
				if err := os.Mkdir(dir, 0o700); err != nil {
					return fmt.Errorf("could not create the directory of the socket: %w. Set TMPDIR to a directory that can be written to, or set --listen 127.0.0.1:0", err)
				}
				created = dir
			}
			c.Addrs[i] = append(c.Addrs[i], listen.Addr{Host: dir, Port: uint64(firstSocketPort + i), Unix: true})
		}
		if dir == "" || needsTCP(i) {
			c.Addrs[i] = append(c.Addrs[i], listen.Addr{Host: "127.0.0.1"})
		}
	}
	return c.restrictUsers(created)
}

// restrictUsers limits clients over TCP to this user, where the system reports the users of clients,
// and opens the sockets in dir to the users in AllowUser.
func (c *Config) restrictUsers(dir string) error {
	others := c.AllowUser != nil
	addrs := slices.Concat(c.Addrs...)
	for _, addr := range addrs {
		if err := c.AllowUser.Validate(addr.Network(), addr.String()); err != nil {
			return err
		}
	}
	overTCP := slices.ContainsFunc(addrs, func(a listen.Addr) bool { return !a.Unix })
	if others || overTCP && peercred.Supported("tcp") {
		if c.AllowUser == nil {
			c.AllowUser = make(peercred.Users)
		}
		c.AllowUser[uint32(os.Geteuid())] = true
	}
	if !others {
		return nil
	}
	c.SocketMode = 0o666
	if dir == "" {
		return nil
	}
	return os.Chmod(dir, 0o711) //nolint:gosec // the server rejects all users but those in AllowUser
}
