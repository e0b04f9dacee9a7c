package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// certificate returns a self-signed CA certificate, in PEM, after change.
func certificate(t *testing.T, name string, change func(*x509.Certificate)) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2120, 1, 2, 0, 0, 0, 0, time.UTC),
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestRun(t *testing.T) {
	a := certificate(t, "Root A", nil)
	b := certificate(t, "Root B", nil)
	old := certificate(t, "Old Root", func(c *x509.Certificate) {
		c.NotAfter = time.Date(2021, 1, 2, 0, 0, 0, 0, time.UTC)
	})
	nameless := certificate(t, "", func(c *x509.Certificate) {
		c.Subject.Organization = []string{"Org\n+ \"Root C\""}
	})
	leaf := certificate(t, "Leaf", func(c *x509.Certificate) { c.IsCA = false })
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")}))
	notDER := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("nonsense")}))
	notBase64 := strings.Replace(a, "\nMII", "\n!!!", 1)

	const absent = "no file"
	tests := []struct {
		name      string
		before    string // the file, or absent
		published string
		args      []string
		code      int
		want      string // the file afterwards
		stdout    string // regular expressions
		stderr    string
	}{
		{
			name: "same", before: a + b, published: a + b, want: a + b,
			stdout: `^added 0, removed 0, unchanged 2\n$`,
		},
		{
			name: "same in another order and layout", before: a + b, published: "\n" + b + "\r\n\n" + a, want: a + b,
			stdout: `^added 0, removed 0, unchanged 2\n$`,
		},
		{
			name: "one there twice", before: a, published: a + b + b, want: a + b + b,
			stdout: `^\+ "Root B".*\nadded 1, removed 0, unchanged 1\n$`,
		},
		{
			name: "added", before: a, published: a + b, want: a + b,
			stdout: `^\+ "Root B", until 2120-01-02, SHA-256 [0-9a-f]{16}\nadded 1, removed 0, unchanged 1\n$`,
		},
		{
			name: "removed", before: a + b, published: b, want: b,
			stdout: `^- "Root A", until 2120-01-02, SHA-256 [0-9a-f]{16}\nadded 0, removed 1, unchanged 1\n$`,
		},
		{
			name: "replaced by one of the same name", before: a, published: certificate(t, "Root A", nil),
			stdout: `^\+ "Root A".*\n- "Root A".*\nadded 1, removed 1, unchanged 0\n$`,
		},
		{
			name: "first copy", before: absent, published: a, want: a,
			stdout: `: not there yet\n\+ "Root A".*\nadded 1, removed 0, unchanged 0\n$`,
		},
		{
			name: "broken copy", before: a[:200], published: a, want: a,
			stdout: `: broken: 1 of 1 certificates are not valid PEM\n\+ "Root A".*\nadded 1,`,
		},
		{
			name: "expired", before: a, published: a + old, want: a + old,
			stdout: `\nexpired, yet published: "Old Root", until 2021-01-02,.*\nadded 1,`,
		},
		{
			name: "expired, nothing new", before: old, published: old, want: old,
			stdout: `^expired, yet published: "Old Root".*\nadded 0, removed 0, unchanged 1\n$`,
		},
		{
			name: "no common name, line break in the other", before: a, published: a + nameless, want: a + nameless,
			stdout: `^\+ "O=Org\\n[^\n]*\nadded 1,`,
		},
		{
			name: "check, same", before: a, published: a, args: []string{"-check"}, want: a,
			stdout: `unchanged 1\n$`,
		},
		{
			name: "check, differs", before: a, published: a + b, args: []string{"-check"}, code: 1, want: a,
			stdout: `^\+ "Root B".*\nadded 1, removed 0, unchanged 1\n$`,
			stderr: `out of date: run make update-ca\n$`,
		},
		{
			name: "check, no copy", before: absent, published: a, args: []string{"-check"}, code: 1, want: absent,
			stdout: `: not there yet\n`, stderr: `out of date`,
		},
		{
			name: "empty", before: a, published: "\n", code: 1, want: a,
			stderr: `: no PEM certificate in it\n$`,
		},
		{
			name: "garbage", before: a, published: "<html>sorry</html>", code: 1, want: a,
			stderr: `: no PEM certificate in it\n$`,
		},
		{
			name: "garbage between", before: a, published: a + "\nhello\n" + b, code: 1, want: a,
			stderr: `: something besides certificates in it\n$`,
		},
		{
			name: "malformed block before a good one", before: a, published: notBase64 + b, code: 1, want: a,
			stderr: `: 1 of 2 certificates are not valid PEM\n$`,
		},
		{
			name: "cut short", before: a, published: a + b[:len(b)/2], code: 1, want: a,
			stderr: `: 1 of 2 certificates are not valid PEM\n$`,
		},
		{
			name: "not DER", before: a, published: notDER, code: 1, want: a,
			stderr: `: certificate 1: x509: `,
		},
		{
			name: "private key", before: a, published: a + key, code: 1, want: a,
			stderr: `: something besides certificates in it\n$`,
		},
		{
			name: "not a CA", before: a, published: a + leaf, code: 1, want: a,
			stderr: `: certificate 2: not a CA certificate: "Leaf", until `,
		},
		{
			name: "oversized", before: a, published: b + strings.Repeat("\n", maxSize), code: 1, want: a,
			stderr: `: larger than 1048576 bytes\n$`,
		},
		{
			name: "largest", before: a, published: b + strings.Repeat("\n", maxSize-len(b)),
			want:   b + strings.Repeat("\n", maxSize-len(b)),
			stdout: `^\+ "Root B"`,
		},
		{
			name: "unknown flag", before: a, published: b, args: []string{"-force"}, code: 2, want: a,
			stderr: `-force`,
		},
		{
			name: "unknown argument", before: a, published: b, args: []string{"now"}, code: 2, want: a,
			stderr: `unknown argument "now"\n$`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte(test.published))
			}))
			defer server.Close()
			dir := t.TempDir()
			file := filepath.Join(dir, "bundle.pem")
			if test.before != absent {
				if err := os.WriteFile(file, []byte(test.before), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if test.want == "" {
				test.want = test.published
			}

			code, stdout, stderr := call(server.Client(), append([]string{"-url", server.URL, "-file", file}, test.args...)...)

			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			match(t, "standard output", stdout, test.stdout)
			match(t, "standard error", stderr, test.stderr)
			after, err := os.ReadFile(file)
			if os.IsNotExist(err) {
				after = []byte(absent)
			} else if err != nil {
				t.Fatal(err)
			}
			if string(after) != test.want {
				t.Errorf("the file is now %q, want %q", after, test.want)
			}
			names, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			if len(names) > 1 {
				t.Errorf("left behind: %v", names)
			}
		})
	}
}

func TestFetch(t *testing.T) {
	a := certificate(t, "Root A", nil)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(a))
	}))
	defer plain.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/bundle", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(a)) })
	mux.Handle("/moved", http.RedirectHandler("/bundle", http.StatusFound))
	mux.Handle("/round", http.RedirectHandler("/round", http.StatusFound))
	mux.Handle("/away", http.RedirectHandler(plain.URL, http.StatusFound))
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "99999")
		_, _ = w.Write([]byte(a))
	})
	server := httptest.NewTLSServer(mux)
	defer server.Close()

	tests := []struct {
		name   string
		url    string
		client *http.Client
		code   int
		stderr string
	}{
		{name: "redirect on the host", url: server.URL + "/moved", client: server.Client()},
		{name: "redirect without end", url: server.URL + "/round", client: server.Client(), code: 1, stderr: `too many redirects\n$`},
		{name: "redirect to another host", url: server.URL + "/away", client: server.Client(), code: 1, stderr: `redirected away, to http://127\.0\.0\.1:\d+\n$`},
		{name: "HTTP error", url: server.URL + "/other", client: server.Client(), code: 1, stderr: `/other: 404 Not Found\n$`},
		{name: "connection lost", url: server.URL + "/cut", client: server.Client(), code: 1, stderr: `/cut: unexpected EOF\n$`},
		{name: "not HTTPS", url: plain.URL, client: plain.Client(), code: 1, stderr: `not an https address\n$`},
		{name: "no address", url: "://", client: plain.Client(), code: 1, stderr: `missing protocol scheme`},
		{name: "unknown certificate", url: server.URL + "/bundle", client: &http.Client{}, code: 1, stderr: `certificate signed by unknown authority`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "bundle.pem")

			code, _, stderr := call(test.client, "-url", test.url, "-file", file)

			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			match(t, "standard error", stderr, test.stderr)
			if _, err := os.Stat(file); (err == nil) != (test.code == 0) {
				t.Errorf("the file: %v", err)
			}
		})
	}
}

func TestFileTrouble(t *testing.T) {
	a := certificate(t, "Root A", nil)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(a))
	}))
	defer server.Close()
	for _, test := range []struct{ name, file, stderr string }{
		{"a folder in its place", t.TempDir(), `is a directory\n$`},
		{"no folder to write it in", filepath.Join(t.TempDir(), "none", "bundle.pem"), `no such file or directory\n$`},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, _, stderr := call(server.Client(), "-url", server.URL, "-file", test.file)

			if code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			match(t, "standard error", stderr, test.stderr)
		})
	}
}

// TestBuiltIn applies the rules for a new bundle to the one in this repository.
func TestBuiltIn(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", builtIn))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parse(data); err != nil {
		t.Error(err)
	}
}

func call(client *http.Client, args ...string) (code int, stdout, stderr string) {
	var out, errs strings.Builder
	code = run(args, client, &out, &errs)
	return code, out.String(), errs.String()
}

// match fails unless got matches pattern, or is empty if there is no pattern.
func match(t *testing.T, what, got, pattern string) {
	t.Helper()
	if pattern == "" {
		pattern = "^$"
	}
	if !regexp.MustCompile(pattern).MatchString(got) {
		t.Errorf("%s %q does not match %q", what, got, pattern)
	}
}
