//go:build unix

package aurora

import (
	"crypto/x509"
	"errors"
	"os"
	"testing"
	"time"
)

func TestCertificates(t *testing.T) {
	t.Parallel()
	c := start(t, &Cluster{Certificate: Certificate{Host: "other.example"}})
	token := mint(t, signing{})
	var unknownCA x509.UnknownAuthorityError
	var wrongName x509.HostnameError
	var invalid x509.CertificateInvalidError

	refused := func(name string, target any) {
		t.Helper()
		if _, err := login(t, c, IAMUser, token); !errors.As(err, target) {
			t.Errorf("%s: %v", name, err)
		}
	}
	switchTo := func(certificate Certificate) {
		t.Helper()
		if err := c.SetCertificate(testContext(t), certificate); err != nil {
			t.Fatal(err)
		}
	}
	refused("started with another name", &wrongName)
	switchTo(Certificate{})
	mustLogin(t, c, IAMUser, token)
	switchTo(Certificate{OtherCA: true})
	refused("another CA", &unknownCA)
	switchTo(Certificate{SelfSigned: true})
	refused("self-signed", &unknownCA)
	switchTo(Certificate{NotAfter: time.Now().Add(-time.Minute)})
	refused("expired", &invalid)

	// While the server is stopped, the certificate is for its restart.
	if err := c.Stop(testContext(t), Fast); err != nil {
		t.Fatal(err)
	}
	switchTo(Certificate{})
	if err := c.StartOnNewPort(testContext(t)); err != nil {
		t.Fatal(err)
	}
	mustLogin(t, c, IAMUser, token)
	if got := len(c.Verdicts()); got != 2 {
		t.Errorf("%d tokens were sent, want 2", got)
	}
	if info, err := os.Stat(c.CAFile()); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("CA file: %v, %v", info, err)
	}
}

func TestCertificateBeforeStart(t *testing.T) {
	t.Parallel()
	if err := new(Cluster).SetCertificate(testContext(t), Certificate{}); err == nil {
		t.Error("no error")
	}
}
