//go:build unix

package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/clientcert"
	"github.com/iamproxy/iamproxy/test/program"
	"github.com/iamproxy/iamproxy/test/sidecar"
)

// login is an attempt of pgjdbc to log in, with a client certificate or without.
type login struct {
	name       string
	parameters string   // of the URL
	want       []string // parts of the error's message, or nothing if the login succeeds
}

// judge returns the failure of a login whose program printed line, or nil.
func (l login) judge(line string) error {
	good := line == aurora.IAMUser
	if len(l.want) > 0 {
		good = strings.HasPrefix(line, "28000 FATAL: iamproxy: ") &&
			!slices.ContainsFunc(l.want, func(part string) bool { return !strings.Contains(line, part) })
	}
	if good {
		return nil
	}
	return fmt.Errorf("%s: got %q, want %q", l.name, line, l.want)
}

// certificates holds the files of client certificates, and the first error of making them.
type certificates struct {
	dir string
	err error
}

func (c *certificates) issue(ca *clientcert.Pair, template *x509.Certificate) *clientcert.Pair {
	p, err := clientcert.Issue(ca, template)
	c.err = errors.Join(c.err, err)
	return p
}

// parameters issues a certificate, and returns pgjdbc's parameters for it.
func (c *certificates) parameters(ca *clientcert.Pair, template *x509.Certificate) string {
	if c.err != nil {
		return ""
	}
	dir, err := os.MkdirTemp(c.dir, "")
	if p := c.issue(ca, template); err == nil && c.err == nil {
		err = p.Write(dir)
	}
	c.err = errors.Join(c.err, err)
	return fmt.Sprintf("sslmode=require&sslcert=%s&sslkey=%s", filepath.Join(dir, clientcert.CertFile), filepath.Join(dir, clientcert.DERKeyFile))
}

// trust writes the roots to the file of --client-ca.
func (c *certificates) trust(roots ...*clientcert.Pair) error {
	if c.err != nil {
		return c.err
	}
	return os.WriteFile(c.rootsFile(), clientcert.Encode(roots...), 0o600)
}

func (c *certificates) rootsFile() string { return filepath.Join(c.dir, "roots.pem") }

// tryCertificates fails unless pgjdbc logs in with the right client certificate only, and
// otherwise reports the SQLSTATE and the message of iamproxy.
func tryCertificates(ctx context.Context, binary string, cluster *aurora.Cluster) (err error) {
	dir, err := os.MkdirTemp("", "drivers-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c := &certificates{dir: dir}
	root, retired := c.issue(nil, clientcert.CA("clients")), c.issue(nil, clientcert.CA("retired"))
	other, namesake := c.issue(nil, clientcert.CA("other")), c.issue(nil, clientcert.CA("clients"))
	if err := c.trust(root, retired); err != nil {
		return err
	}
	proxy := sidecar.Sidecar{Binary: binary, Cluster: cluster, Flags: []string{"--listen", "127.0.0.1:0",
		"--listen-tls", "self-signed", "--client-ca", c.rootsFile(), "--client-cert-user", "cn"}}
	address, err := proxy.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, proxy.Stop()) }()

	user := func() *x509.Certificate { return clientcert.Named(aurora.IAMUser) }
	expired := user()
	expired.NotBefore, expired.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	missing, unaccepted := "connection requires a valid client certificate", fmt.Sprintf("client certificate %q is not accepted", "CN="+aurora.IAMUser)
	right, revoked := c.parameters(root, user()), c.parameters(retired, user())
	before := []login{
		{"the right certificate", right, nil},
		{"a CA that will be removed", revoked, nil},
		{"no TLS", "sslmode=disable", []string{"connection without TLS, which is required here"}},
		{"no certificate", "sslmode=require&sslcert=&sslkey=", []string{missing}},
		{"expired", c.parameters(root, expired), []string{unaccepted, "expired"}},
		{"another user", c.parameters(root, clientcert.Named(aurora.OtherUser)),
			[]string{fmt.Sprintf("client certificate %q does not name user %q", "CN="+aurora.OtherUser, aurora.IAMUser)}},
		{"another CA", c.parameters(other, user()), []string{missing}}, // pgjdbc does not send it
		{"another CA of the same name", c.parameters(namesake, user()), []string{unaccepted, "unknown authority"}},
	}
	after := []login{
		{"the right certificate, after a CA was removed", right, nil},
		{"a CA that was removed", revoked, []string{missing}},
	}
	if c.err != nil {
		return c.err
	}
	failed := tryLogins(ctx, address, before)
	if err := c.trust(root); err != nil {
		return err
	}
	return errors.Join(failed, tryLogins(ctx, address, after))
}

// tryLogins returns the failures of logins at address.
func tryLogins(ctx context.Context, address string, logins []login) (err error) {
	command := append(slices.Clone(java), "Logins.java")
	for _, l := range logins {
		command = append(command, fmt.Sprintf("jdbc:postgresql://%s/%s?user=%s&%s", address, aurora.Database, aurora.IAMUser, l.parameters))
	}
	out, err := program.Run(ctx, limit, filepath.Join("test", "drivers", "java"), sidecar.Environment(), command)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != len(logins) {
		return fmt.Errorf("%d results of %d logins: %s", len(lines), len(logins), out)
	}
	for i, l := range logins {
		err = errors.Join(err, l.judge(lines[i]))
	}
	return err
}
