package e2e

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// TestReportUnreadableFiles verifies that files of another user are named in the error, and
// that they are of no consequence if they are not needed.
func TestReportUnreadableFiles(t *testing.T) {
	t.Parallel()
	const unreadable = " could not be read: permission denied"
	locked := t.TempDir()
	if err := os.Chmod(locked, 0); err != nil {
		t.Fatal(err)
	}
	quoted := "[profile 'my keys']\n" + keys(jane)
	for name, test := range map[string]struct {
		file, content string
		config        string // readable; of the file there may be another one
		mode          os.FileMode
		env, args     []string
		want          string // on standard error; empty: a token
	}{
		"credentials":             {file: "credentials", content: keysProfile(jane), want: "no AWS credentials: ~/.aws/credentials" + unreadable},
		"config":                  {file: "config", content: quoted, want: "no AWS credentials: ~/.aws/config" + unreadable},
		"config, by a variable":   {file: "other", content: quoted, env: []string{"AWS_CONFIG_FILE=~/.aws/other"}, want: "no AWS credentials: ~/.aws/other" + unreadable},
		"profile of credentials":  {file: "credentials", content: keysProfile(jane), args: []string{"--profile=p"}, want: "~/.aws/credentials" + unreadable},
		"credentials, not needed": {file: "credentials", content: keysProfile(jane), env: []string{"AWS_ACCESS_KEY_ID=" + jane.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + jane.SecretAccessKey}},
		"login of SSO": {file: "sso/cache/" + fmt.Sprintf("%x", sha1.Sum([]byte("corp"))) + ".json", content: "{}", config: "[profile p]\nsso_session = corp\nsso_account_id = 1\n" +
			"sso_role_name = r\n[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.example/start\n", args: []string{"--profile=p"},
			want: ".json\": permission denied. Make the file readable for the user that runs iamproxy."},
		"a home of another user": {file: "credentials", content: keysProfile(jane), env: []string{"HOME=" + locked}, want: "no AWS credentials found (tried: "},
		"a name in quotes":       {file: "config", content: quoted, mode: 0o644, args: []string{"--profile=my keys"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home, err := os.MkdirTemp("", "home")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(home) })
			path := filepath.Join(home, ".aws", test.file)
			write := func(path, content string, mode os.FileMode) error {
				return errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode))
			}
			for _, err := range []error{os.Chmod(home, 0o755), os.MkdirAll(filepath.Dir(path), 0o755), write(filepath.Join(home, ".aws", "config"), test.config, 0o644), write(path, test.content, test.mode)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			cmd := asUser(exec.CommandContext(t.Context(), binaryPath(t), append([]string{"token", aurora.DefaultHost, "--user=" + aurora.IAMUser}, test.args...)...))
			cmd.Env = append(bareEnvironment("HOME="+home, "AWS_CONFIG_FILE=", "AWS_SHARED_CREDENTIALS_FILE="), test.env...)
			if test.want == "" {
				tokenOf(t, cmd)
				return
			}
			if out, err := combinedOutput(t, cmd); err == nil || !strings.Contains(string(out), test.want) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
