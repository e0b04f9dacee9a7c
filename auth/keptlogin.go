package auth

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

// keptLogin is a login from a file that the AWS CLI writes, with its renewal of type T.
// The SDK renews a login with a refresh token, which is valid once, and fails if it cannot
// write the renewed login to the file. keptLogin keeps the renewed login in memory, so that
// a read-only file does not end it.
type keptLogin[T any] struct {
	mu      sync.Mutex // held while credentials are retrieved with the login
	spent   string     // the refresh token in the file that was exchanged for renewed
	renewed T
	next    string    // the refresh token that came with renewed
	expires time.Time // of renewed
	used    bool      // renewed is the answer to the last exchange
	warned  bool
}

// exchange returns the renewed login and its remaining life, for a refresh token from the
// file. It calls request only if it has no valid one, and never with a refresh token
// that is spent.
func (l *keptLogin[T]) exchange(inFile string, request func(refreshToken string) (renewed T, next string, life time.Duration, err error)) (T, time.Duration, error) {
	token := inFile
	if l.spent == inFile && !l.expires.IsZero() {
		if left := l.expires.Sub(wallClock()); left > 0 {
			l.used = true
			return l.renewed, left, nil
		}
		token = l.next
	}
	renewed, next, life, err := request(token)
	if err != nil {
		return renewed, 0, err
	}
	l.spent, l.renewed, l.next, l.expires, l.used = inFile, renewed, next, wallClock().Add(life), true
	return renewed, life, nil
}

// survives reports whether renewed is to be used although the SDK failed with err, which
// then is about writing the file.
func (l *keptLogin[T]) survives(err error, log *zap.Logger) bool {
	if err == nil || !l.used {
		return false
	}
	if !l.warned {
		l.warned = true
		log.Warn("the login was renewed, but could not be written to its file; it is kept in memory until iamproxy exits", zap.Error(err))
	}
	return true
}

// keptLogins holds logins by the path of their file. All identities share them.
type keptLogins[T any] struct {
	mu     sync.Mutex
	byPath map[string]*keptLogin[T]
}

func (l *keptLogins[T]) of(path string) *keptLogin[T] {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byPath == nil {
		l.byPath = make(map[string]*keptLogin[T])
	}
	if l.byPath[path] == nil {
		l.byPath[path] = new(keptLogin[T])
	}
	return l.byPath[path]
}
