package cli

import "slices"

// hint is advice for flags of other programs.
type hint struct {
	Names []string // of the other programs' flags
	Flag  string   // of iamproxy; a command without it does not give the advice
	Text  string   // in which {} stands for the value if that is a port, and else for PORT
}

// foreignFlags has advice for flags of psql, cloud-sql-proxy and the AWS CLI.
var foreignFlags = []hint{
	{[]string{"p", "port"}, "listen", "did you mean --listen 127.0.0.1:{}? The port of the database is in ENDPOINT: HOST:{}"},
	{[]string{"a", "address", "bind"}, "listen", "did you mean --listen ADDRESS:PORT?"},
	{[]string{"unix-socket"}, "listen", "did you mean --listen unix:DIR?"},
	{[]string{"u"}, "listen", "did you mean --listen unix:DIR, or --user USER?"},
	{[]string{"host", "hostname"}, "", "the host is the ENDPOINT and has no flag: iamproxy HOST"},
	{[]string{"endpoint"}, "", "the ENDPOINT has no flag: iamproxy HOST"},
	{[]string{"username", "U"}, "user", "did you mean --user USER?"},
	{[]string{"dbname", "d"}, "database", "did you mean --database NAME?"},
	{[]string{"password"}, "", "passwords are never given as a flag; iamproxy logs in with tokens, and only grant reads a password, from PGPASSWORD or --password-file"},
	{[]string{"W", "w"}, "", "iamproxy logs in with tokens and never prompts for a password"},
	{[]string{"token", "login-token"}, "", "leave it out; iamproxy signs tokens with AWS credentials (--profile, --assume-role)"},
	{[]string{"auto-iam-authn", "enable-iam-login", "i"}, "", "leave it out; iamproxy always logs in with IAM"},
	{[]string{"private-ip"}, "", "leave it out; DNS decides which address of the database is used, or --via"},
	{[]string{"credentials-file"}, "profile", "did you mean --profile NAME? AWS_SHARED_CREDENTIALS_FILE names another file"},
	{[]string{"aws-profile"}, "profile", "did you mean --profile NAME?"},
	{[]string{"aws-region"}, "region", "did you mean --region REGION?"},
	{[]string{"role", "role-arn"}, "assume-role", "did you mean --assume-role ARN?"},
	{[]string{"sslmode"}, "", "TLS to the database is always verified; --listen-tls is for clients"},
	{[]string{"sslrootcert", "ca"}, "ca-file", "did you mean --ca-file FILE?"},
	{[]string{"tls"}, "listen-tls", "did you mean --listen-tls CERT.pem,KEY.pem? TLS to the database is always verified"},
	{[]string{"max-connections"}, "max-sessions", "did you mean --max-sessions N?"},
	{[]string{"max-sigterm-delay"}, "drain-max", "did you mean --drain-max?"},
	{[]string{"http-port", "admin-port"}, "admin", "did you mean --admin 127.0.0.1:{}?"},
	{[]string{"http-address"}, "admin", "did you mean --admin ADDRESS:PORT?"},
	{[]string{"health-check"}, "admin", "leave it out; --admin serves /livez, /startupz and /readyz"},
	{[]string{"prometheus"}, "admin", "leave it out; --admin serves /metrics"},
	{[]string{"structured-logs"}, "log-format", "did you mean --log-format json?"},
	{[]string{"verbose", "debug", "debug-logs"}, "log-level", "did you mean --log-level debug?"},
	{[]string{"quiet", "q"}, "log-level", "did you mean --log-level warn?"},
	{[]string{"exit-zero-on-sigterm"}, "", "leave it out; iamproxy exits with 0 after SIGTERM"},
	{[]string{"config", "config-file"}, "", "iamproxy has no configuration file; each flag is also an environment variable"},
}

// endpointFlags are flags of other programs whose value is the ENDPOINT.
var endpointFlags = []string{"host", "hostname", "endpoint"}

// foreignFlag returns the advice for a flag of another program.
func foreignFlag(name string) (advice hint, ok bool) {
	i := slices.IndexFunc(foreignFlags, func(h hint) bool { return slices.Contains(h.Names, name) })
	if i < 0 {
		return hint{}, false
	}
	return foreignFlags[i], true
}
