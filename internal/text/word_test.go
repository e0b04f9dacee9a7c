package text

import (
	"encoding/base64"
	"net/url"
	"testing"
)

func TestShapeOf(t *testing.T) {
	for value, want := range map[string]Shape{
		`{"password":"S3cret","host":"h"}`:                         JSON,
		` {'password': 'S3cret'}`:                                  JSON,
		`"{\"password\":\"S3cret\"}"`:                              JSON,
		`["app","S3cret"]`:                                         JSON,
		`"password":"S3cret"}`:                                     JSON, // the end of one
		"{\n  \"a\": 1\n}":                                         JSON,
		"postgres://app:S3cret,Pw@h:5432/d":                        URL,
		"h.example.com,postgresql://app:S3cret@h":                  URL,
		"jdbc:postgresql://h/d?user=a&password=S3cret":             URL,
		"jdbc:postgresql:d":                                        URL,
		"https://h":                                                URL,
		"host=h password=S3cret":                                   ConnectionString,
		"Host=h;Password=S3cret":                                   ConnectionString,
		"user = 'a'\npassword = 'b'":                               ConnectionString,
		"app:S3cret@h:5432/d":                                      UserAndHost,
		"app:S3c/ret@h":                                            UserAndHost,
		"PGPASSWORD=S3cret":                                        Assignment,
		"export DB_PASSWORD='S3cret'":                              Assignment,
		"h.example.com:5432/d?user=a&password=S3cret":              Query,
		"AKIAIOSFODNN7EXAMPLE:S3cret/x+y":                          Assignment,
		"h.example.com:5432:*:app:S3cret":                          PasswordLine,
		"password: S3cret":                                         Assignment,
		"[default]\naws_secret_access_key = S3cret":                Assignment,
		"aws_secret_access_key=S3cret":                             Assignment,
		"aws_session_token = S3cret":                               Assignment,
		"h:5432/?Action=connect&DBUser=app&X-Amz-Signature=S3cret": Token,
		"-----BEGIN CERTIFICATE-----\nMII":                         PEM,
		"arn:aws:secretsmanager:eu-west-1:1:secret:x":              ARN,

		"":                         "",
		"h.example.com:5432":       "",
		"[fd00::1]:5432":           "",
		"unix:/run/db":             "",
		"jane@example.com":         "",
		"my profile":               "",
		"10.0.0.0/8,fd00::/8":      "",
		"h?user=a&database=b":      "",
		"h?via=socks5://u:p@h:1":   "",
		"AbCdEfGhIjKlMnOp":         "",
		"cluster-ABCDEFGHIJKL0123": "",
		"100%":                     "",
		"fd00:1:2:3:4:5:6:7":       "",
		"keycloak:5432":            "",
		"secret-db:5432":           "",
		"password":                 "",
		`C:\Users\me\ca.pem`:       "",
	} {
		if got := ShapeOf(value); got != want {
			t.Errorf("%s: %q, want %q", value, got, want)
		}
		if want == "" {
			continue
		}
		for _, encoded := range []string{url.PathEscape(value), url.QueryEscape(url.PathEscape(value))} {
			if encoded != value && ShapeOf(encoded) == "" {
				t.Errorf("%s: no shape", encoded)
			}
		}
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding} {
			if encoded := encoding.EncodeToString([]byte(value)); ShapeOf(encoded) != Base64 {
				t.Errorf("%s: %q, want %q", encoded, ShapeOf(encoded), Base64)
			}
		}
	}
}

func TestQuote(t *testing.T) {
	for _, test := range []struct {
		form Form
		word string
		want string
	}{
		{Plain, "xml", `"xml"`},
		{Plain, "", `""`},
		{Plain, "S3cret", "(6 characters, not shown)"},
		{Plain, "pa55 wörd", "(9 characters, not shown)"},
		{Number, "-1", `"-1"`},
		{Number, "30ms", `"30ms"`},
		{Number, "many", `"many"`},
		{Number, "12345678901", "(11 characters, not shown)"},
		{Region, "eu-west1", `"eu-west1"`},
		{Region, "S3cret", "(6 characters, not shown)"},
		{Region, "hunter2", "(7 characters, not shown)"},
		{Host, "db.example.com:5432", `"db.example.com:5432"`},
		{Host, "[::1]:5432", `"[::1]:5432"`},
		{Host, ":5432", `":5432"`},
		{Host, "15432", `"15432"`},
		{Host, "app:S3cret", "(10 characters, not shown)"},
		{Host, "a b", "(3 characters, not shown)"},
		{Host, "hunter2", "(7 characters, not shown)"},
		{Name, "AWS Admin/jane@example.com", `"AWS Admin/jane@example.com"`},
		{Name, "hunter2!", "(8 characters, not shown)"},
		{Name, "app:hunter2", "(11 characters, not shown)"},
		{Path, "/etc/ssl/ca", `"/etc/ssl/ca"`},
		{Path, "ca.pem", `"ca.pem"`},
		{Path, `C:\Users\my me\ca.pem`, `"C:\\Users\\my me\\ca.pem"`},
		{Path, "AKIAIOSFODNN7EXAMPLE:a/b", "(24 characters, not shown)"},
		{Name, "--hunter2", "(9 characters, not shown)"},
		{Path, "hunter2", "(7 characters, not shown)"},
		{Path, "a/hunter2=", "(10 characters, not shown)"},
	} {
		if got := test.form.Quote(test.word); got != test.want {
			t.Errorf("%s: %s, want %s", test.word, got, test.want)
		}
	}
}

func TestClosest(t *testing.T) {
	for word, want := range map[string]string{
		"chekc": "check", "shutdwn": "shutdown", "cehck": "check", "pol": "policy", "Run": "run",
		"mydb": "", "x": "", "": "", "verify": "",
	} {
		if got := Closest(word, []string{"run", "check", "shutdown", "policy", "wait"}); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}
