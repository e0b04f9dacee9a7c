package cli

// What help and the manual page say beside commands and flags.
const (
	program = "iamproxy"
	summary = "log in to Amazon RDS and Aurora for PostgreSQL with IAM tokens"
	about   = `PostgreSQL clients connect here without a password. iamproxy logs in to Amazon RDS or Aurora with an IAM token, over verified TLS.

ENDPOINT is HOST[:PORT][?key=value&...]. HOST is the name that AWS assigned to the database. The keys are listen, user, database, region, profile, assume-role, external-id, via, target, pool and sslnegotiation (postgres, or direct for PostgreSQL 17 and later). The first endpoint is served at --listen, each further one at the next port.`
	examples = `iamproxy mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com
psql "host=localhost user=app dbname=mydb"

# from a laptop, through Session Manager
iamproxy mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com \
    --profile dev --via ssm://i-0123456789abcdef0

# find out why a login fails
iamproxy check mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com \
    --user app --database mydb`
	variables = "Each flag is also an environment variable: --ca-file is IAMPROXY_CA_FILE. IAMPROXY_ENDPOINTS has the endpoints, separated by commas. A flag takes precedence over its variable."
	exitCodes = "0 done, or drained after SIGTERM, SIGINT or shutdown; 1 failed; 2 the command line or the configuration is wrong, or grant would end a password login."
	docsURL   = "https://github.com/iamproxy/iamproxy"
)

var usages = []string{"iamproxy ENDPOINT... [flags]", "iamproxy COMMAND [arguments] [flags]"}

// groupTitles are the titles of groups of flags, in order.
var groupTitles = []string{"Command", "Connect", "Identity", "Administrator", "Network", "Limits", "Shutdown", "Observability"}

// commandExamples has examples by command.
var commandExamples = map[string]string{
	"token": `export PGPASSWORD="$(iamproxy token \
    mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com --user app)"`,
	"exec": `iamproxy exec mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com \
    --user app --database mydb -- psql -f schema.sql
iamproxy exec mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com \
    --user app --database mydb \
    --env 'DATABASE_URL=postgres://{user}@{host}:{port}/{database}' -- npm start`,
	"check": `iamproxy check mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com \
    --user app --database mydb`,
	"grant": `iamproxy grant mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com \
    --dry-run --user app --database mydb --privileges readwrite`,
	"policy": `iamproxy policy mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com \
    --user app --format terraform`,
	"wait":     `iamproxy wait --timeout 10s && exec my-application`,
	"shutdown": `iamproxy shutdown`,
	"completion": `source <(iamproxy completion bash)     # in ~/.bashrc
source <(iamproxy completion zsh)      # in ~/.zshrc, after compinit
iamproxy completion fish >~/.config/fish/completions/iamproxy.fish`,
	"help": `iamproxy help check`,
}
