package cli

// hint is advice for a flag of another program.
type hint struct {
	Flag string // of iamproxy; a command without it does not give the advice
	Text string // in which {} stands for the value if that is a port, and else for PORT
}

// foreignFlags has advice for flags of psql, cloud-sql-proxy and the AWS CLI.
var foreignFlags = map[string]hint{
	"p":                    {Flag: "listen", Text: "did you mean --listen 127.0.0.1:{}? The port of the database is in ENDPOINT: HOST:{}"},
	"port":                 {Flag: "listen", Text: "did you mean --listen 127.0.0.1:{}? The port of the database is in ENDPOINT: HOST:{}"},
	"a":                    {Flag: "listen", Text: "did you mean --listen ADDRESS:PORT?"},
	"address":              {Flag: "listen", Text: "did you mean --listen ADDRESS:PORT?"},
	"bind":                 {Flag: "listen", Text: "did you mean --listen ADDRESS:PORT?"},
	"unix-socket":          {Flag: "listen", Text: "did you mean --listen unix:DIR?"},
	"u":                    {Flag: "listen", Text: "did you mean --listen unix:DIR, or --user USER?"},
	"host":                 {Text: "the host is the ENDPOINT and has no flag: iamproxy HOST"},
	"endpoint":             {Text: "the ENDPOINT has no flag: iamproxy HOST"},
	"hostname":             {Text: "the host is the ENDPOINT and has no flag: iamproxy HOST"},
	"username":             {Flag: "user", Text: "did you mean --user USER?"},
	"U":                    {Flag: "user", Text: "did you mean --user USER?"},
	"dbname":               {Flag: "database", Text: "did you mean --database NAME?"},
	"d":                    {Flag: "database", Text: "did you mean --database NAME?"},
	"password":             {Text: "passwords are never given as a flag; iamproxy logs in with tokens, and only grant reads a password, from PGPASSWORD or --password-file"},
	"W":                    {Text: "iamproxy logs in with tokens and never prompts for a password"},
	"w":                    {Text: "iamproxy logs in with tokens and never prompts for a password"},
	"token":                {Text: "leave it out; iamproxy signs tokens with AWS credentials (--profile, --assume-role)"},
	"login-token":          {Text: "leave it out; iamproxy signs tokens with AWS credentials (--profile, --assume-role)"},
	"auto-iam-authn":       {Text: "leave it out; iamproxy always logs in with IAM"},
	"enable-iam-login":     {Text: "leave it out; iamproxy always logs in with IAM"},
	"i":                    {Text: "leave it out; iamproxy always logs in with IAM"},
	"private-ip":           {Text: "leave it out; DNS decides which address of the database is used, or --via"},
	"credentials-file":     {Flag: "profile", Text: "did you mean --profile NAME? AWS_SHARED_CREDENTIALS_FILE names another file"},
	"aws-profile":          {Flag: "profile", Text: "did you mean --profile NAME?"},
	"aws-region":           {Flag: "region", Text: "did you mean --region REGION?"},
	"role":                 {Flag: "assume-role", Text: "did you mean --assume-role ARN?"},
	"role-arn":             {Flag: "assume-role", Text: "did you mean --assume-role ARN?"},
	"sslmode":              {Text: "TLS to the database is always verified; --listen-tls is for clients"},
	"sslrootcert":          {Flag: "ca-file", Text: "did you mean --ca-file FILE?"},
	"ca":                   {Flag: "ca-file", Text: "did you mean --ca-file FILE?"},
	"tls":                  {Flag: "listen-tls", Text: "did you mean --listen-tls CERT.pem,KEY.pem? TLS to the database is always verified"},
	"max-connections":      {Flag: "max-sessions", Text: "did you mean --max-sessions N?"},
	"max-sigterm-delay":    {Flag: "drain-max", Text: "did you mean --drain-max?"},
	"http-port":            {Flag: "admin", Text: "did you mean --admin 127.0.0.1:{}?"},
	"admin-port":           {Flag: "admin", Text: "did you mean --admin 127.0.0.1:{}?"},
	"http-address":         {Flag: "admin", Text: "did you mean --admin ADDRESS:PORT?"},
	"health-check":         {Flag: "admin", Text: "leave it out; --admin serves /livez, /startupz and /readyz"},
	"prometheus":           {Flag: "admin", Text: "leave it out; --admin serves /metrics"},
	"structured-logs":      {Flag: "log-format", Text: "did you mean --log-format json?"},
	"verbose":              {Flag: "log-level", Text: "did you mean --log-level debug?"},
	"debug":                {Flag: "log-level", Text: "did you mean --log-level debug?"},
	"debug-logs":           {Flag: "log-level", Text: "did you mean --log-level debug?"},
	"quiet":                {Flag: "log-level", Text: "did you mean --log-level warn?"},
	"q":                    {Flag: "log-level", Text: "did you mean --log-level warn?"},
	"exit-zero-on-sigterm": {Text: "leave it out; iamproxy exits with 0 after SIGTERM"},
	"config":               {Text: "iamproxy has no configuration file; each flag is also an environment variable"},
	"config-file":          {Text: "iamproxy has no configuration file; each flag is also an environment variable"},
}
