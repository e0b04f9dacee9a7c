//go:build linux

// Package apiserver runs a kube-apiserver and an etcd on loopback, without the rest of a cluster.
package apiserver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Server is a running kube-apiserver.
type Server struct {
	url       string
	http      *http.Client
	resources map[string]resource // by apiVersion and kind
	programs  []*program
}

// program is a process, and a channel that is closed when it has ended.
type program struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// Token is the bearer token of a user.
type Token string

// Users of the server: one that may do everything, and one with the rights that it is given.
const (
	Admin Token = "admin"
	User  Token = "user"
)

// startTimeout is for busy machines: the server is ready after 10 seconds on two idle cores.
const startTimeout = 3 * time.Minute

// Start starts the server from its binary, and etcd, with their files in dir. port is the first of
// three consecutive ports that are free.
func Start(ctx context.Context, binary, dir string, port int) (_ *Server, err error) {
	s := &Server{resources: map[string]resource{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	etcd, peer, secure := fmt.Sprintf("http://127.0.0.1:%d", port), fmt.Sprintf("http://127.0.0.1:%d", port+1), strconv.Itoa(port+2)
	if err := s.start(dir, "etcd", "--data-dir="+filepath.Join(dir, "etcd"), "--listen-client-urls="+etcd, "--advertise-client-urls="+etcd,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer,
		"--unsafe-no-fsync"); err != nil {
		return nil, err
	}
	files, roots, err := credentials(dir)
	if err != nil {
		return nil, err
	}
	s.url = "https://127.0.0.1:" + secure
	s.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}}}
	if err := s.start(dir, binary, append(files,
		"--etcd-servers="+etcd, "--bind-address=127.0.0.1", "--secure-port="+secure, "--authorization-mode=RBAC",
		"--service-cluster-ip-range=10.0.0.0/24", "--service-account-issuer=https://kubernetes.default.svc",
		"--endpoint-reconciler-type=none")...); err != nil {
		return nil, err
	}
	return s, s.ready(ctx, filepath.Join(dir, filepath.Base(binary)+".log"))
}

// start starts a program, whose output goes to a file in dir.
func (s *Server) start(dir, path string, args ...string) error {
	log, err := os.Create(filepath.Join(dir, filepath.Base(path)+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(path, args...) //nolint:gosec // the program under test
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	started := &program{cmd, make(chan struct{})}
	s.programs = append(s.programs, started)
	go func() {
		_ = cmd.Wait() // killed by Stop, or ready finds it ended
		close(started.ended)
	}()
	return nil
}

// Stop kills the programs. Their files are temporary.
func (s *Server) Stop() error {
	var failed error
	for _, p := range s.programs {
		if err := p.cmd.Process.Kill(); !errors.Is(err, os.ErrProcessDone) {
			failed = errors.Join(failed, err)
		}
		<-p.ended
	}
	return failed
}

// ready waits until the server accepts requests.
func (s *Server) ready(ctx context.Context, log string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, p := range s.programs {
		go func() {
			select {
			case <-p.ended:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	err := Until(ctx, func() error {
		_, err := s.Do(ctx, Request{Path: "/readyz"})
		return err
	})
	if err == nil {
		return nil
	}
	text, _ := os.ReadFile(log)
	return fmt.Errorf("%w: %s", err, text[max(0, len(text)-4000):])
}

// Until repeats an operation until it succeeds or the context ends.
func Until(ctx context.Context, operation func() error) error {
	for {
		err := operation()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// credentials writes a certificate, a key for service accounts and the tokens of users to dir.
func credentials(dir string) (flags []string, roots *x509.CertPool, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	for _, file := range []struct {
		name  string
		text  []byte
		flags []string
	}{
		{"tls.crt", cert, []string{"tls-cert-file"}},
		{"tls.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}),
			[]string{"tls-private-key-file", "service-account-key-file", "service-account-signing-key-file"}},
		{"tokens.csv", bytes.Join([][]byte{
			[]byte(Admin + ",admin,1,system:masters"), []byte(User + ",user,2"),
		}, []byte("\n")), []string{"token-auth-file"}},
	} {
		path := filepath.Join(dir, file.name)
		if err := os.WriteFile(path, file.text, 0o600); err != nil {
			return nil, nil, err
		}
		for _, flag := range file.flags {
			flags = append(flags, "--"+flag+"="+path)
		}
	}
	return flags, roots, nil
}
