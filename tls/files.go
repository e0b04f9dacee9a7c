package tls

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"

	"go.uber.org/zap"
)

// Files provides a certificate from PEM files that may change at any time: a
// certificate chain, leaf first, and its key. Load must be called first.
type Files struct {
	Cert, Key string
	// Log receives each change, and failures to read one. It may be nil.
	Log *zap.Logger

	files watched[*tls.Certificate]
}

// Load reads the files. It fails if one cannot be read, or if they do not contain a
// certificate and its key.
func (f *Files) Load() error {
	f.files = watched[*tls.Certificate]{
		name: "the certificate for clients", log: f.Log, files: []string{f.Cert, f.Key}, parse: f.parse,
	}
	return f.files.load()
}

// Current returns the certificate. If the files have changed, it reads them again.
// If they are not valid now, for example in the middle of a change, it returns the
// last valid certificate.
func (f *Files) Current() *tls.Certificate { return f.files.current() }

func (f *Files) parse(contents [][]byte) (*tls.Certificate, []zap.Field, error) {
	pair, err := tls.X509KeyPair(withoutMarks(contents[0]), withoutMarks(contents[1]))
	if err != nil {
		return nil, nil, fmt.Errorf("%s, %s: %w", f.Cert, f.Key, err)
	}
	return &pair, []zap.Field{zap.String("file", f.Cert), zap.Time("not_after", pair.Leaf.NotAfter)}, nil
}

// ClientCAs provides the roots of client certificates from a PEM file that may change
// at any time. Load must be called first.
type ClientCAs struct {
	File string
	// Log receives each change, and failures to read one. It may be nil.
	Log *zap.Logger

	file watched[*x509.CertPool]
}

// Load reads the file. It fails as Roots does.
func (c *ClientCAs) Load() error {
	c.file = watched[*x509.CertPool]{
		name: "the roots of client certificates", log: c.Log, files: []string{c.File}, parse: c.parse,
	}
	return c.file.load()
}

// Current returns the roots. If the file has changed, it reads it again. If the file is
// not valid now, it returns the last valid roots.
func (c *ClientCAs) Current() *x509.CertPool { return c.file.current() }

func (c *ClientCAs) parse(contents [][]byte) (*x509.CertPool, []zap.Field, error) {
	roots, err := parseRoots(c.File, contents[0])
	return roots, []zap.Field{zap.String("file", c.File)}, err
}

// watched holds a value that is parsed from files, and parses them again when they have
// changed.
//
// It compares contents and not modification times, which are coarse and may not change
// when Kubernetes updates a volume.
type watched[T any] struct {
	name  string // for the log
	log   *zap.Logger
	files []string
	parse func(contents [][]byte) (T, []zap.Field, error)

	mu       sync.Mutex
	contents [][]byte // as last read, valid or not
	value    T
	failing  string // last error that was logged
}

// current returns the last valid value, after reading the files again.
func (w *watched[T]) current() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch err := w.reload(); {
	case err == nil:
		w.failing = ""
	case err.Error() != w.failing: // log it once, not for each client
		w.failing = err.Error()
		w.logger().Warn("could not reload "+w.name+"; the previous content stays in use", zap.Error(err))
	}
	return w.value
}

func (w *watched[T]) load() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reload()
}

// reload reads the files, and replaces the value if they have changed. w.mu is held.
func (w *watched[T]) reload() error {
	contents := make([][]byte, len(w.files))
	changed := w.contents == nil
	for i, file := range w.files {
		var err error
		if contents[i], err = readFile(file); err != nil {
			return err
		}
		changed = changed || !bytes.Equal(contents[i], w.contents[i])
	}
	if !changed {
		return nil
	}
	w.contents = contents
	value, fields, err := w.parse(contents)
	if err != nil {
		return err
	}
	w.value = value
	w.logger().Info("loaded "+w.name, fields...)
	return nil
}

func (w *watched[T]) logger() *zap.Logger {
	if w.log == nil {
		return zap.NewNop()
	}
	return w.log
}
