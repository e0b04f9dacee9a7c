//go:build unix

package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/test/aurora"
	"github.com/iamproxy/iamproxy/test/sigv4"
)

// ledger holds all output that the tests have received from the binary and its clients, and
// all secrets. They are compared after the last test, since a secret may become known after
// it was printed.
type ledger struct {
	mu      sync.Mutex
	printed map[printed]bool
	secrets map[string]string // descriptions of the secrets
}

// printed is an output and its origin.
type printed struct{ test, from, text string }

var kept = ledger{
	printed: make(map[printed]bool),
	secrets: map[string]string{
		aurora.DefaultKey.SecretAccessKey:        "a secret access key",
		aurora.DefaultSessionKey.SecretAccessKey: "a secret access key",
		aurora.DefaultSessionKey.SessionToken:    "a session token",
		jane.SecretAccessKey:                     "a secret access key",
		adminPassword:                            "the administrator's password",
		socksPassword:                            "a proxy's password",
	},
}

// secretMarks appear only next to secrets.
var secretMarks = []string{"X-Amz-", "X-Amz%2D", "Action=connect", "AWS4-HMAC", "aws4_request", "PRIVATE KEY-----"}

// keep records an output. It is for all output but tokens on the standard output of the
// command token.
func keep(t testing.TB, from, text string) {
	kept.mu.Lock()
	defer kept.mu.Unlock()
	kept.printed[printed{t.Name(), from, text}] = true
}

// keepError records an error that a client received.
func keepError(t testing.TB, err error) {
	if err != nil {
		keep(t, "an error of a client", err.Error())
	}
	var told *pgconn.PgError
	if errors.As(err, &told) {
		keep(t, "an error of a client", fmt.Sprintf("%+v", *told))
	}
}

// noteSecret records a secret.
func noteSecret(what, secret string) {
	kept.mu.Lock()
	defer kept.mu.Unlock()
	kept.secrets[secret] = what
}

// newSecret returns a new secret.
func newSecret(what string) string {
	secret := rand.Text() + rand.Text()
	noteSecret(what, secret)
	return secret
}

func noteKey(key sigv4.Key) {
	noteSecret("a secret access key", key.SecretAccessKey)
	noteSecret("a session token", key.SessionToken)
}

var signature = regexp.MustCompile(`X-Amz-Signature=([0-9a-f]{64})`)

// noteToken records the secrets in a token: its signature. The session token is recorded
// with its key.
func noteToken(token string) {
	if found := signature.FindStringSubmatch(token); found != nil {
		noteSecret("the signature of a token", found[1])
	}
}

// combinedOutput runs cmd and records its output.
func combinedOutput(t testing.TB, cmd *exec.Cmd) ([]byte, error) {
	t.Helper()
	out, err := cmd.CombinedOutput()
	keep(t, filepath.Base(cmd.Path)+" "+firstOf(cmd.Args[1:]), string(out))
	return out, err
}

// tokenOf runs the command token and returns the token. It records the other output.
func tokenOf(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	keep(t, "token's standard error", stderr.String())
	if err != nil {
		t.Fatalf("token: %v: %s", err, stderr.String())
	}
	noteToken(string(out))
	return strings.TrimSpace(string(out))
}

func firstOf(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// piece is the number of bytes of a long secret that are found by themselves.
const piece = 16

// wanted holds the strings to search for.
type wanted struct {
	pieces map[string]string // of piece bytes, with the descriptions of the secrets
	whole  map[string]string
}

func (l *ledger) wanted() wanted {
	w := wanted{make(map[string]string), make(map[string]string)}
	for _, mark := range secretMarks {
		w.whole[mark] = "the mark " + mark
	}
	for secret, what := range l.secrets {
		for _, form := range formsOf(secret) {
			switch {
			case len(secret) < 8: // too short to be distinguished
			case len(secret) < 2*piece || strings.Contains(secret, " "): // in words that have other uses
				w.whole[form] = what
			default:
				for part := range slices.Chunk([]byte(form), piece) {
					if len(part) == piece {
						w.pieces[string(part)] = what
					}
				}
			}
		}
	}
	return w
}

// formsOf returns the encodings of a secret: unchanged, in a URL, in JSON, quoted, in
// hexadecimal digits, and in base64 at any offset.
func formsOf(secret string) []string {
	quoted, _ := json.Marshal(secret) // never fails
	all := []string{secret, url.QueryEscape(secret), url.PathEscape(secret), strings.Trim(string(quoted), `"`),
		strings.Trim(strconv.Quote(secret), `"`), hex.EncodeToString([]byte(secret))}
	for skipped := range min(3, len(secret)) {
		whole := len(secret) - (len(secret)-skipped)%3
		all = append(all, base64.StdEncoding.EncodeToString([]byte(secret[skipped:whole])),
			base64.URLEncoding.EncodeToString([]byte(secret[skipped:whole])))
	}
	return all
}

// find returns the description of the first secret in a text, and the text before it.
func (w wanted) find(text string) (what, before string) {
	at := len(text)
	for form, name := range w.whole {
		if i := strings.Index(text[:min(len(text), at+len(form))], form); i >= 0 && i <= at {
			at, what = i, name
		}
	}
	for i := 0; i+piece <= len(text) && i < at; i++ {
		if name, ok := w.pieces[text[i:i+piece]]; ok {
			at, what = i, name
		}
	}
	return what, text[max(0, at-80):at]
}

// lookFor searches for the secrets that are known now.
func lookFor(text string) (what, before string) {
	kept.mu.Lock()
	defer kept.mu.Unlock()
	return kept.wanted().find(text)
}

// report returns a line for each secret that was found, without the secret.
func (l *ledger) report() (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.wanted()
	for p := range l.printed {
		if what, before := w.find(p.text); what != "" {
			found = append(found, fmt.Sprintf("%s: %s in %s, behind %q", p.test, what, p.from, before))
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// keepFiles records the files below dir, and their names.
func (l *ledger) keepFiles(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err == nil {
			l.printed[printed{"all tests", path, path + "\n" + string(content)}] = true
		}
		return err
	})
}

// Secrets and parts of them are found in all encodings.
func TestLedgerFindsSecrets(t *testing.T) {
	t.Parallel()
	kept.mu.Lock()
	secrets := maps.Clone(kept.secrets)
	kept.mu.Unlock()
	w := (&ledger{secrets: secrets}).wanted()
	for secret, what := range secrets {
		for _, form := range formsOf(secret) {
			for _, text := range []string{form, "x" + form, "xx" + form + " y"} {
				if got, before := w.find(text); got != what || strings.Trim(before, "x") != "" {
					t.Errorf("in %q: %q behind %q, want %s", text, got, before, what)
				}
			}
			if part := form[len(form)/4:]; len(secret) >= 4*piece {
				if got, _ := w.find(part[:2*piece]); got != what {
					t.Errorf("in the part %q: %q, want %s", part[:2*piece], got, what)
				}
			}
		}
	}
	for _, text := range []string{"", "no secret", aurora.DefaultKey.AccessKeyID, secretMarks[0][:5]} {
		if got, _ := w.find(text); got != "" {
			t.Errorf("in %q: %s", text, got)
		}
	}
}

// A whole secret in place of ENDPOINT or of a flag's value, as ECS sets it without :host::, is
// not printed. Neither is a connection URL with a comma in its password.
func TestReportSecretInPlaceOfEndpoint(t *testing.T) {
	t.Parallel()
	secret := newSecret("a misplaced secret")
	document := `{"password":"` + secret + `","username":"postgres","host":"mydb.example.com"}`
	for variable, want := range map[string]string{
		"IAMPROXY_ENDPOINTS=" + document: "IAMPROXY_ENDPOINTS is JSON, as a whole secret is: in ECS, write the secret's ARN with :host:: after it",
		"IAMPROXY_VIA=" + document:       "IAMPROXY_VIA is JSON, as a whole secret is: in ECS, write the secret's ARN with :host:: after it",
		"IAMPROXY_REGION=" + document:    "IAMPROXY_REGION is JSON, as a whole secret is",
		"IAMPROXY_ENDPOINTS=postgres://app:" + secret[:8] + "," + secret[8:] + "@" + aurora.DefaultHost + ":5432/mydb": "IAMPROXY_ENDPOINTS is a URL: give only its HOST[:PORT]",
	} {
		cmd := exec.CommandContext(t.Context(), binaryPath(t))
		cmd.Env = bareEnvironment(variable)
		if !strings.HasPrefix(variable, "IAMPROXY_ENDPOINTS") {
			cmd.Args = append(cmd.Args, aurora.DefaultHost)
		}
		out, err := combinedOutput(t, cmd)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), want) {
			t.Errorf("%v, %s, want exit code 2 and %q", err, out, want)
		}
		if what, before := lookFor(string(out)); what != "" || strings.Contains(string(out), secret[:8]) {
			t.Errorf("%s after %q", what, before)
		}
	}
}
