package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// loginViolations are what a server with a valid certificate sends, by the name of the user.
var loginViolations = map[string]struct {
	respond    func(c *tlsConn)
	code, text string // of the error that the client receives
	passwords  int    // that the server receives on each connection
}{
	"length_0":        {func(c *tlsConn) { raw(c, "R\x00\x00\x00\x00") }, "08P01", "length 0", 0},
	"length_3":        {func(c *tlsConn) { raw(c, "R\x00\x00\x00\x03") }, "08P01", "length 3", 0},
	"length_negative": {func(c *tlsConn) { raw(c, "R\xff\xff\xff\xff") }, "08P01", "length -1", 0},
	"length_2GB":      {func(c *tlsConn) { raw(c, "R\x7f\xff\xff\xff"+strings.Repeat("x", 1000)) }, "08P01", "length 2147483647", 0},
	"error_of_2GB":    {func(c *tlsConn) { c.requestPassword(); raw(c, "E\x7f\xff\xff\xff") }, "08P01", "type 'E'", 1},
	"length_later":    {func(c *tlsConn) { c.requestPassword(); c.send(authOK); raw(c, "K\x00\x00\x00\x01") }, "08P01", "type 'K'", 1},
	"settings_for_ever": {func(c *tlsConn) {
		c.requestPassword()
		c.send(authOK)
		repeat(c, "Sname\x00"+strings.Repeat("v", 10_000)+"\x00")
	}, "08P01", "sent too much data", 1},
	"notices_for_ever":  {func(c *tlsConn) { repeat(c, "NSNOTICE\x00Mx"+strings.Repeat("y", 10_000)+"\x00\x00") }, "08P01", "sent too much data", 0},
	"a_byte_a_second":   {func(c *tlsConn) { drip(c) }, "57P03", "no answer from", 0},
	"asks_twice":        {func(c *tlsConn) { c.requestPassword(); c.requestPassword() }, "08P01", "requested the password twice", 1},
	"MD5":               {func(c *tlsConn) { c.send("R\x00\x00\x00\x05salt") }, "28000", "MD5 authentication", 0},
	"SASL":              {func(c *tlsConn) { c.send("R\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00") }, "28000", "SCRAM authentication", 0},
	"SASL_then_clear":   {func(c *tlsConn) { c.send("R\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"); c.requestPassword() }, "28000", "SCRAM authentication", 0},
	"GSS":               {func(c *tlsConn) { c.send("R\x00\x00\x00\x07") }, "28000", "Kerberos", 0},
	"method_99":         {func(c *tlsConn) { c.send("R\x00\x00\x00\x63") }, "28000", "unknown (99) authentication", 0},
	"half_a_method":     {func(c *tlsConn) { c.send("R\x00\x00") }, "08P01", "invalid authentication request", 0},
	"no_fields":         {func(c *tlsConn) { c.send("E\x00") }, "08P01", "no SQLSTATE", 0},
	"error_without_end": {func(c *tlsConn) { c.send("ESFATAL\x00C28000\x00Mx") }, "08P01", "invalid error message", 0},
	"error_then_hangs":  {func(c *tlsConn) { c.requestPassword(); c.send(authFailed) }, "28000", "PAM authentication failed", 1},
	"error_of_500_KB": {func(c *tlsConn) {
		c.send("ESFATAL\x00VFATAL\x00C3D000\x00M" + strings.Repeat("x", 500_000) + "\x00\x00")
	}, "3D000", "xxx", 0},
	"wrong_code": {func(c *tlsConn) { c.send("ESFATAL\x00VFATAL\x00Ctoo long a code\x00Mx\x00\x00") }, "too long a code", "x", 0},
	"redirects": {func(c *tlsConn) {
		c.send("ESFATAL\x00VFATAL\x00C28000\x00Mgo to 127.0.0.1:1\x00Hhost=evil.example\x00\x00")
	}, "28000", "go to 127.0.0.1:1", 0},
	"leaves":         {func(c *tlsConn) { c.Close() }, "57P03", "closed the connection during login", 0},
	"leaves_with_it": {func(c *tlsConn) { c.requestPassword(); c.Close() }, "57P03", "closed the connection during login", 1},
	"leaves_before":  {func(c *tlsConn) { c.requestPassword(); c.send(authOK); c.Close() }, "57P03", "closed the connection during login", 1},
	"ready_too_soon": {func(c *tlsConn) { c.send(readyForQuery) }, "57P03", "no answer from", 0},
}

func raw(c *tlsConn, bytes string) { _, _ = io.WriteString(c, bytes) }

// repeat sends message until the connection breaks.
func repeat(c *tlsConn, message string) {
	b := append(binary.BigEndian.AppendUint32([]byte{message[0]}, uint32(len(message)+3)), message[1:]...)
	for {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

// drip sends a message at one byte a second.
func drip(c *tlsConn) {
	for _, b := range []byte("R\x00\x00\x00\x08" + strings.Repeat("\x00", 100)) {
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// A server that violates the protocol receives a token at most once, and only if it requests
// one as RDS does. The client receives one FATAL error and nothing else.
func TestProtocolViolationsInLogin(t *testing.T) {
	t.Parallel()
	ca := newTestCA(t)
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(*x509.Certificate) {})}}
	server := startFaultyServer(t, config, acceptTLS, func(user string, c *tlsConn) {
		loginViolations[user].respond(c)
		c.discard()
	})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), aurora.DefaultHost, "--listen=127.0.0.1:0", "--admin=127.0.0.1:0",
		"--via="+server.listener.Addr().String(), "--ca-file="+ca.file, "--connect-timeout=4s", "--connect-rate=0")
	var all sync.WaitGroup
	for name, v := range loginViolations {
		all.Go(func() {
			if err := expectOneFatal(p.listens[0], name, v.code, v.text); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	all.Wait()
	until(t, "all violations", func() bool {
		server.mu.Lock()
		defer server.mu.Unlock()
		return len(server.logins) == len(loginViolations)
	})
	server.mu.Lock()
	defer server.mu.Unlock()
	for name, v := range loginViolations {
		for _, login := range server.logins[name] {
			if len(login.passwords) != v.passwords {
				t.Errorf("%s: received %d passwords", name, len(login.passwords))
			}
		}
	}
	const most = 300 // MB, with the race detector
	if peak := peakMemory(t, p); peak > most {
		t.Errorf("%d MB of memory were taken", peak)
	}
}

// acceptTLS answers SSLRequest as PostgreSQL does.
func acceptTLS(conn net.Conn) bool {
	_, err := conn.Write([]byte{'S'})
	return err == nil
}

// expectOneFatal logs in. It returns an error unless the answer is one FATAL error with code
// and text, and nothing else.
func expectOneFatal(address, user, code, text string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	startup, err := (&pgproto3.StartupMessage{ProtocolVersion: protocol30, Parameters: map[string]string{"user": user, "database": "d"}}).Encode(nil)
	if err != nil {
		return err
	}
	if _, err := conn.Write(startup); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	if len(answer) < 5 || answer[0] != 'E' || int(binary.BigEndian.Uint32(answer[1:])) != len(answer)-1 {
		return fmt.Errorf("got %d bytes that are not one error: %.100q", len(answer), answer)
	}
	var said pgproto3.ErrorResponse
	if err := said.Decode(answer[5:]); err != nil || said.Severity != "FATAL" || said.Code != code || !strings.Contains(said.Message, text) {
		return fmt.Errorf("received %s %s %.200s, %w; want %s with %q", said.Severity, said.Code, said.Message, err, code, text)
	}
	return nil
}

// A server that has not authenticated itself by TLS receives neither the user nor a token.
func TestProtocolViolationsBeforeLogin(t *testing.T) {
	t.Parallel()
	ca, other := newTestCA(t), newTestCA(t)
	good := func(change func(*tls.Config)) *tls.Config {
		config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(*x509.Certificate) {})}, MinVersion: tls.VersionTLS10}
		change(config)
		return config
	}
	presents := func(change func(*x509.Certificate)) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{ca.issue(t, change)}}
	}
	sends := func(text string) func(net.Conn) bool {
		return func(conn net.Conn) bool {
			_, _ = io.WriteString(conn, text)
			return false
		}
	}
	violations := map[string]struct {
		config *tls.Config
		answer func(net.Conn) bool
		text   string
	}{
		"TLS 1.1": {good(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11 }), acceptTLS, "could not establish TLS with"},
		"TLS 1.0": {good(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS10 }), acceptTLS, "could not establish TLS with"},
		"3DES": {good(func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA}
		}), acceptTLS, "could not establish TLS with"},
		"RC4": {good(func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA}
		}), acceptTLS, "could not establish TLS with"},
		"wants a certificate": {good(func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert; c.MaxVersion = tls.VersionTLS12 }), acceptTLS, "could not establish TLS with"},
		"expired":             {presents(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }), acceptTLS, "is not valid now"},
		"not yet":             {presents(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-47 * time.Hour) }), acceptTLS, "is not valid now"},
		"another name":        {presents(func(c *x509.Certificate) { c.DNSNames = []string{"evil.example"} }), acceptTLS, `is not for host name "` + aurora.DefaultHost},
		"a name above":        {presents(func(c *x509.Certificate) { c.DNSNames = []string{"*.amazonaws.com"} }), acceptTLS, `is not for host name "` + aurora.DefaultHost},
		"an address":          {presents(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(127, 0, 0, 1)} }), acceptTLS, `is not for host name "` + aurora.DefaultHost},
		"a CN alone":          {presents(func(c *x509.Certificate) { c.DNSNames = nil }), acceptTLS, `is not for host name "` + aurora.DefaultHost},
		"for clients":         {presents(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), acceptTLS, "is not accepted"},
		"another CA":          {&tls.Config{Certificates: []tls.Certificate{other.issue(t, func(*x509.Certificate) {})}}, acceptTLS, "is not trusted"},
		"by itself":           {&tls.Config{Certificates: []tls.Certificate{testCA{}.issue(t, func(*x509.Certificate) {})}}, acceptTLS, "is not trusted"},
		"no handshake":        {nil, sends("S\x15\x03\x01\x00\x02\x02\x28"), "could not establish TLS with"},
		"garbage":             {nil, sends("S" + strings.Repeat("garbage", 5000)), "could not establish TLS with"},
		"a huge record":       {nil, sends("S\x16\x03\x03\xff\xff" + strings.Repeat("x", 70_000)), "could not establish TLS with"},
		"nothing behind":      {nil, sends("S"), "no answer from"},
		"a message behind":    {nil, sends("SR\x00\x00\x00\x08\x00\x00\x00\x03"), "could not establish TLS with"},
		"a redirect":          {nil, sends("HTTP/1.1 301 Moved Permanently\r\nLocation: http://evil.example/\r\n\r\n"), "answered the request for TLS with 'H'"},
		"SSH":                 {nil, sends("SSH-2.0-OpenSSH_9.2\r\n"), ""},
		"MySQL":               {nil, sends("\x4a\x00\x00\x00\x0a8.0.36\x00"), "answered the request for TLS with 'J'"},
		"no TLS":              {nil, sends("N"), "does not offer TLS"},
		"nothing at all":      {nil, sends(""), "no answer from"},
	}
	var args []string
	var names []string
	servers := make(map[string]*faultyServer)
	for name, v := range violations {
		server := startFaultyServer(t, v.config, v.answer, func(_ string, c *tlsConn) { c.requestPassword() })
		servers[name] = server
		names = append(names, name)
		args = append(args, fmt.Sprintf("%s?listen=127.0.0.1:0&via=%s", aurora.DefaultHost, server.listener.Addr()))
	}
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), append(args, "--admin=127.0.0.1:0", "--ca-file="+ca.file, "--connect-timeout=4s", "--connect-rate=0")...)
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			code := "08001"
			if violations[name].text == "no answer from" {
				code = "57P03"
			}
			if err := expectOneFatal(p.listens[i], aurora.IAMUser, code, violations[name].text); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	all.Wait()
	for name, server := range servers {
		server.mu.Lock()
		if len(server.logins) > 0 {
			t.Errorf("%s: received a startup packet: %+v", name, server.logins)
		}
		if all := string(server.raw); strings.Contains(all, aurora.IAMUser) || strings.Contains(all, "Amz") {
			t.Errorf("%s: received %q", name, all)
		}
		server.mu.Unlock()
	}
}
