//go:build unix

package aurora

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account identifies the user that the server runs as.
type account struct{ uid, gid uint32 }

// unprivileged returns the account of postgres, or else of nobody, if this process runs as
// root: PostgreSQL refuses to. Otherwise it returns nil, and the server runs as the user of
// this process.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID == nil && errGID == nil && uid != 0 {
			return &account{uint32(uid), uint32(gid)}, nil
		}
	}
	return nil, errors.New("neither user postgres nor nobody exists to run the server as")
}

// credential returns the account for syscall.SysProcAttr; nil keeps the user of this
// process.
func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// own changes the owner of a file to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Chown(path, int(a.uid), int(a.gid))
}

// writeFile writes a file that only the account can read.
func (a *account) writeFile(path string, content []byte) error {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	return a.own(path)
}

// Names in a Cluster's directory.
const (
	dataDir   = "data" // the database cluster, private to its account
	socketDir = "run"  // no password is required here, so it is private, too
	caFile    = "ca.pem"
	logFile   = "server.log"
)

// maxSocketPath is the longest path that fits into sockaddr_un with its NUL on every unix:
// 104 bytes on the BSDs and macOS, 108 on Linux.
const maxSocketPath = 103

// makeDir makes the directory of a Cluster. Its subdirectories belong to a.
func makeDir(a *account) (string, error) {
	dir, err := makeTemp(a)
	if err != nil {
		return "", err
	}
	// The account needs to traverse it, and every user may read CAFile.
	err = os.Chmod(dir, 0o755)
	for _, name := range []string{dataDir, socketDir} {
		if err == nil {
			err = os.Mkdir(filepath.Join(dir, name), 0o700)
		}
		if err == nil {
			err = a.own(filepath.Join(dir, name))
		}
	}
	if err != nil {
		_ = os.RemoveAll(dir) // the first error is reported
		return "", err
	}
	return dir, nil
}

// makeTemp makes an empty directory that a can reach and whose path leaves room for the
// path of a socket: below $TMPDIR if possible, else in memory or on disk.
func makeTemp(a *account) (string, error) {
	const below = "/aurora-0123456789/" + socketDir + "/.s.PGSQL.65535"
	err := fmt.Errorf("none for temporary files has a path of at most %d bytes and lets the server's user through",
		maxSocketPath-len(below))
	for _, base := range []string{os.Getenv("TMPDIR"), memoryDir(), "/tmp", "/var/tmp"} {
		if !filepath.IsAbs(base) || len(base)+len(below) > maxSocketPath || !traversable(base, a) {
			continue
		}
		var dir string
		if dir, err = os.MkdirTemp(base, "aurora-"); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("directory: %w", err)
}

// traversable reports whether a, if not nil, may traverse dir and its parents with the
// rights of others.
func traversable(dir string, a *account) bool {
	for a != nil {
		info, err := os.Stat(dir)
		if err != nil || !info.IsDir() || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
	return true
}
