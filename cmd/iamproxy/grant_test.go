package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGrantUsage(t *testing.T) {
	noAWS(t)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "binary")
	if err := os.WriteFile(binary, []byte("a\x00b"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
		code int
		want string // in the one line on standard error
	}{
		{"no password for the administrator", []string{host, "--user=app", "--admin-user=boss"}, 2, `no password for user "boss"`},
		{"no CA file", []string{host, "--user=app", "--password-file=grant_test.go", "--ca-file=/does/not/exist"}, 2, `--ca-file: could not read "/does/not/exist"`},
		{"long name", []string{host, "--user=" + strings.Repeat("é", 32)}, 2, "at most 63 bytes"},
		{"blank name", []string{host, "--user=app, ,b"}, 2, "a name is empty"},
		{"line break in a name", []string{host, "--user=a\nb"}, 2, "--user: a name must not have control characters"},
		{"role of RDS", []string{host, "--user=rds_iam", "--dry-run"}, 2, `--user "rds_iam": a predefined role`},
		{"role of RDS with privileges", []string{host, "--user=rds_superuser"}, 2, `--user "rds_superuser": a predefined role`},
		{"administrator of RDS", []string{host + "?user=rdsadmin"}, 2, `--user "rdsadmin": a predefined role`},
		{"host is not a name of AWS", []string{"db.example.com", "--user=app"}, 2, "set --region"},
		{"administrator as user, dry run", []string{host, "--user=boss", "--admin-user=boss", "--dry-run"}, 2, "would end its password logins"},
		{"--give-up-password of another user", []string{host, "--user=app", "--give-up-password=other"}, 2, `--give-up-password must name users of --user, or the administrator "postgres"`},
		{"--init without --database", []string{host, "--user=app", "--init=grant_test.go"}, 2, "--database is required"},
		{"empty schema", []string{host, "--user=app", "--database=d", "--privileges=owner", "--schema=a,,b"}, 2, "--schema: a name is empty"},
		{"binary file", []string{host, "--user=app", "--database=d", "--init=" + binary}, 2, "not text in UTF-8"},
		{"token and password", []string{host, "--user=app", "--admin-iam", "--password-file=" + empty}, 2, "--admin-iam and --password-file exclude"},
		{"administrator in the key user", []string{host + "?user=postgres", "--user=app"}, 2, `"postgres" is the administrator`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("PGPASSWORD", "")
			code, stdout, stderr := try(t.Context(), append([]string{"grant"}, test.args...)...)
			if code != test.code || stdout != "" || !strings.Contains(stderr, test.want) || strings.Contains(stderr, "SECRET") ||
				!strings.HasPrefix(stderr, "iamproxy: ") || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit code %d, stdout %q, stderr %q, want %d and one line with %q", code, stdout, stderr, test.code, test.want)
			}
		})
	}
}

func TestGrantUnreachable(t *testing.T) {
	for want, args := range map[string][]string{
		"127.0.0.1:1): connection refused": {host, "--via=127.0.0.1:1"},
		"127.0.0.1:2): connection refused": {host, "--via=socks5://u:SECRET@127.0.0.1:2"},
		"could not resolve":                {"no.such.invalid?region=eu-west-1"},
	} {
		t.Setenv("PGPASSWORD", "SECRET")
		code, stdout, stderr := try(t.Context(), append([]string{"grant", "--user=app"}, args...)...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, want) || strings.Contains(stderr, "SECRET") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("exit code %d, stdout %q, stderr %q, want %q", code, stdout, stderr, want)
		}
	}
}
