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

// loginLies are told by a server that has a good certificate, to the user of that name.
var loginLies = map[string]struct {
	say        func(c *confided)
	code, text string // what the client is told
	passwords  int    // that the server gets, of each connection
}{
	"length_0":          {func(c *confided) { raw(c, "R\x00\x00\x00\x00") }, "08P01", "the length 0", 0},
	"length_3":          {func(c *confided) { raw(c, "R\x00\x00\x00\x03") }, "08P01", "the length 3", 0},
	"length_negative":   {func(c *confided) { raw(c, "R\xff\xff\xff\xff") }, "08P01", "the length -1", 0},
	"length_2GB":        {func(c *confided) { raw(c, "R\x7f\xff\xff\xff"+strings.Repeat("x", 1000)) }, "08P01", "the length 2147483647", 0},
	"error_of_2GB":      {func(c *confided) { c.asks(); raw(c, "E\x7f\xff\xff\xff") }, "08P01", "type 'E'", 1},
	"length_later":      {func(c *confided) { c.asks(); c.say(letsIn); raw(c, "K\x00\x00\x00\x01") }, "08P01", "type 'K'", 1},
	"settings_for_ever": {func(c *confided) { c.asks(); c.say(letsIn); forEver(c, "Sname\x00"+strings.Repeat("v", 10_000)+"\x00") }, "08P01", "sends too much", 1},
	"notices_for_ever":  {func(c *confided) { forEver(c, "NSNOTICE\x00Mx"+strings.Repeat("y", 10_000)+"\x00\x00") }, "08P01", "sends too much", 0},
	"a_byte_a_second":   {func(c *confided) { drip(c) }, "08006", "no answer from", 0},
	"asks_twice":        {func(c *confided) { c.asks(); c.asks() }, "08P01", "asked for the password twice", 1},
	"MD5":               {func(c *confided) { c.say("R\x00\x00\x00\x05salt") }, "28000", "an MD5 password", 0},
	"SASL":              {func(c *confided) { c.say("R\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00") }, "28000", "a SCRAM password", 0},
	"SASL_then_clear":   {func(c *confided) { c.say("R\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"); c.asks() }, "28000", "a SCRAM password", 0},
	"GSS":               {func(c *confided) { c.say("R\x00\x00\x00\x07") }, "28000", "Kerberos", 0},
	"method_99":         {func(c *confided) { c.say("R\x00\x00\x00\x63") }, "28000", "authentication method 99", 0},
	"half_a_method":     {func(c *confided) { c.say("R\x00\x00") }, "08P01", "cannot be read", 0},
	"no_fields":         {func(c *confided) { c.say("E\x00") }, "08P01", "an error without a code", 0},
	"error_without_end": {func(c *confided) { c.say("ESFATAL\x00C28000\x00Mx") }, "08P01", "cannot be read", 0},
	"error_then_hangs":  {func(c *confided) { c.asks(); c.say(saysNo) }, "28000", "PAM authentication failed", 1},
	"error_of_500_KB": {func(c *confided) {
		c.say("ESFATAL\x00VFATAL\x00C3D000\x00M" + strings.Repeat("x", 500_000) + "\x00\x00")
	}, "3D000", "xxx", 0},
	"wrong_code": {func(c *confided) { c.say("ESFATAL\x00VFATAL\x00Ctoo long a code\x00Mx\x00\x00") }, "too long a code", "x", 0},
	"redirects": {func(c *confided) {
		c.say("ESFATAL\x00VFATAL\x00C28000\x00Mgo to 127.0.0.1:1\x00Hhost=evil.example\x00\x00")
	}, "28000", "go to 127.0.0.1:1", 0},
	"leaves":         {func(c *confided) { c.Close() }, "08006", "closed the connection during login", 0},
	"leaves_with_it": {func(c *confided) { c.asks(); c.Close() }, "08006", "closed the connection during login", 1},
	"leaves_before":  {func(c *confided) { c.asks(); c.say(letsIn); c.Close() }, "08006", "closed the connection during login", 1},
	"ready_too_soon": {func(c *confided) { c.say(isReady) }, "08006", "no answer from", 0},
}

func raw(c *confided, bytes string) { _, _ = io.WriteString(c, bytes) }

// forEver says the same until nobody listens.
func forEver(c *confided, message string) {
	b := append(binary.BigEndian.AppendUint32([]byte{message[0]}, uint32(len(message)+3)), message[1:]...)
	for {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

func drip(c *confided) {
	for _, b := range []byte("R\x00\x00\x00\x08" + strings.Repeat("\x00", 100)) {
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// A server that lies gets a token once, if it asks for one as it ought to, and the client
// hears what is wrong, and nothing else.
func TestLiesInLogins(t *testing.T) {
	t.Parallel()
	ca := newLiars(t)
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(*x509.Certificate) {})}}
	server := startLiar(t, config, agrees, func(user string, c *confided) {
		loginLies[user].say(c)
		c.stays()
	})
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), aurora.DefaultHost, "--listen=127.0.0.1:0", "--admin=127.0.0.1:0",
		"--via="+server.listener.Addr().String(), "--ca-file="+ca.file, "--connect-timeout=4s", "--connect-rate=0")
	var all sync.WaitGroup
	for name, lie := range loginLies {
		all.Go(func() {
			if err := expectOnlyFatal(p.listens[0], name, lie.code, lie.text); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	all.Wait()
	until(t, "all lies to be told", func() bool {
		server.mu.Lock()
		defer server.mu.Unlock()
		return len(server.logins) == len(loginLies)
	})
	server.mu.Lock()
	defer server.mu.Unlock()
	for name, lie := range loginLies {
		for _, login := range server.logins[name] {
			if len(login.passwords) != lie.passwords {
				t.Errorf("%s: got %d passwords", name, len(login.passwords))
			}
		}
	}
	const most = 300 // MB, with the race detector
	if peak := peakMemory(t, p); peak > most {
		t.Errorf("%d MB of memory were taken", peak)
	}
}

// agrees answers SSLRequest as a server does.
func agrees(conn net.Conn) bool {
	_, err := conn.Write([]byte{'S'})
	return err == nil
}

// expectOnlyFatal logs in. It is an error to be told anything but why that failed.
func expectOnlyFatal(address, user, code, text string) error {
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
		return fmt.Errorf("told %s %s %.200s, %w; want %s with %q", said.Severity, said.Code, said.Message, err, code, text)
	}
	return nil
}

// Nothing goes to a server that has not shown, in good TLS, who it is: no user, no token.
func TestLiesBeforeLogins(t *testing.T) {
	t.Parallel()
	ca, other := newLiars(t), newLiars(t)
	good := func(change func(*tls.Config)) *tls.Config {
		config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, func(*x509.Certificate) {})}, MinVersion: tls.VersionTLS10}
		change(config)
		return config
	}
	shows := func(change func(*x509.Certificate)) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{ca.issue(t, change)}}
	}
	says := func(text string) func(net.Conn) bool {
		return func(conn net.Conn) bool {
			_, _ = io.WriteString(conn, text)
			return false
		}
	}
	lies := map[string]struct {
		config *tls.Config
		answer func(net.Conn) bool
		text   string
	}{
		"TLS 1.1": {good(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11 }), agrees, "no TLS with"},
		"TLS 1.0": {good(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS10 }), agrees, "no TLS with"},
		"3DES": {good(func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA}
		}), agrees, "no TLS with"},
		"RC4": {good(func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA}
		}), agrees, "no TLS with"},
		"wants a certificate": {good(func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert; c.MaxVersion = tls.VersionTLS12 }), agrees, "no TLS with"},
		"expired":             {shows(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }), agrees, "is not valid now"},
		"not yet":             {shows(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-47 * time.Hour) }), agrees, "is not valid now"},
		"another name":        {shows(func(c *x509.Certificate) { c.DNSNames = []string{"evil.example"} }), agrees, "no certificate for " + aurora.DefaultHost},
		"a name above":        {shows(func(c *x509.Certificate) { c.DNSNames = []string{"*.amazonaws.com"} }), agrees, "no certificate for " + aurora.DefaultHost},
		"an address":          {shows(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(127, 0, 0, 1)} }), agrees, "no certificate for " + aurora.DefaultHost},
		"a CN alone":          {shows(func(c *x509.Certificate) { c.DNSNames = nil }), agrees, "no certificate for " + aurora.DefaultHost},
		"for clients":         {shows(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), agrees, "is not accepted"},
		"another CA":          {&tls.Config{Certificates: []tls.Certificate{other.issue(t, func(*x509.Certificate) {})}}, agrees, "is not trusted"},
		"by itself":           {&tls.Config{Certificates: []tls.Certificate{liars{}.issue(t, func(*x509.Certificate) {})}}, agrees, "is not trusted"},
		"no handshake":        {nil, says("S\x15\x03\x01\x00\x02\x02\x28"), "no TLS with"},
		"garbage":             {nil, says("S" + strings.Repeat("garbage", 5000)), "no TLS with"},
		"a huge record":       {nil, says("S\x16\x03\x03\xff\xff" + strings.Repeat("x", 70_000)), "no TLS with"},
		"nothing behind":      {nil, says("S"), "no answer from"},
		"a message behind":    {nil, says("SR\x00\x00\x00\x08\x00\x00\x00\x03"), "no TLS with"},
		"a redirect":          {nil, says("HTTP/1.1 301 Moved Permanently\r\nLocation: http://evil.example/\r\n\r\n"), "answered the request for TLS with 'H'"},
		"SSH":                 {nil, says("SSH-2.0-OpenSSH_9.2\r\n"), ""},
		"MySQL":               {nil, says("\x4a\x00\x00\x00\x0a8.0.36\x00"), "answered the request for TLS with 'J'"},
		"no TLS":              {nil, says("N"), "does not offer TLS"},
		"nothing at all":      {nil, says(""), "no answer from"},
	}
	var args []string
	var names []string
	servers := make(map[string]*liar)
	for name, lie := range lies {
		server := startLiar(t, lie.config, lie.answer, func(_ string, c *confided) { c.asks() })
		servers[name] = server
		names = append(names, name)
		args = append(args, fmt.Sprintf("%s?listen=127.0.0.1:0&via=%s", aurora.DefaultHost, server.listener.Addr()))
	}
	p := startProxy(t, keyEnvironment(aurora.DefaultKey), append(args, "--admin=127.0.0.1:0", "--ca-file="+ca.file, "--connect-timeout=4s", "--connect-rate=0")...)
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			code := "08001"
			if lies[name].text == "no answer from" {
				code = "08006"
			}
			if err := expectOnlyFatal(p.listens[i], aurora.IAMUser, code, lies[name].text); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	all.Wait()
	for name, server := range servers {
		server.mu.Lock()
		if len(server.logins) > 0 {
			t.Errorf("%s: it was told who logs in: %+v", name, server.logins)
		}
		if all := string(server.raw); strings.Contains(all, aurora.IAMUser) || strings.Contains(all, "Amz") {
			t.Errorf("%s: it got %q", name, all)
		}
		server.mu.Unlock()
	}
}
