package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/proxy/pgwire"
	"github.com/iamproxy/iamproxy/proxy/stats"
)

// login is one through the proxy itself, as a client's, so that what it is told is what a
// client is.
func (w *walk) login(ctx context.Context) result {
	conn, err := w.connect(ctx)
	var said *pgconn.PgError
	switch {
	case err == nil:
		w.conn, w.seen.answer = conn, letIn
		return ok(fmt.Sprintf("logged in to %s, PostgreSQL %s", w.Database, conn.ParameterStatus("server_version")))
	case errors.As(err, &said):
		return w.explain(said)
	default:
		return failed("no answer to the login: "+err.Error(), w.again())
	}
}

func (w *walk) connect(ctx context.Context) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig("host=iamproxy port=5432 sslmode=disable")
	if err != nil {
		return nil, err
	}
	listener := newPipes()
	go w.serve(listener)
	config.User, config.Database = w.User, w.Database
	config.DialFunc = listener.dial
	config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	config.RuntimeParams = map[string]string{"application_name": "iamproxy check"}
	return pgconn.ConnectConfig(ctx, config)
}

// serve ends when the proxy is shut down.
func (w *walk) serve(listener net.Listener) { _ = w.Proxy.Serve(listener) }

// explain is what a refusal means.
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func (w *walk) explain(said *pgconn.PgError) result {
	if own, isOwn := w.ownRefusal(); isOwn {
		return w.explainOwn(own)
	}
	if w.refusesToken(said) {
		if next := w.ofRDSProxy(said.Message); next != "" {
			w.seen.answer = otherwise
			return failed(serverText(said), next)
		}
		w.seen.answer = refused
		return w.explainRefused(serverText(said))
	}
	w.seen.answer = otherwise
	return failed(serverText(said), w.afterLogin(said))
}

// ownRefusal is the proxy's word, if it was the proxy that refused. What came over the wire
// does not tell: a server may say anything.
func (w *walk) ownRefusal() (refusal stats.Failure, isOwn bool) {
	failures := w.Proxy.Failures()
	if len(failures) == 0 {
		return stats.Failure{}, false
	}
	return failures[0], !failures[0].Reason.FromServer()
}

func (w *walk) explainOwn(refusal stats.Failure) result {
	found := strings.TrimPrefix(refusal.Message, "iamproxy: ")
	if refusal.Reason == pgwire.PasswordRequested {
		w.seen.answer = notAsked
		return w.explainNotAsked(found)
	}
	w.seen.answer = otherwise
	return failed(found, inWords(refusal.Hint))
}

// refusesToken reports whether a server's answer is about the token: class 28 (invalid
// authorization specification) or, of Aurora DSQL, a sentence.
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/troubleshooting.html
func (w *walk) refusesToken(said *pgconn.PgError) bool {
	if w.Name.Kind == auth.DSQL && strings.Contains(said.Message, "access denied") {
		return true
	}
	return strings.HasPrefix(said.Code, "28") && !strings.Contains(said.Message, "not permitted to log in")
}

// ofRDSProxy is what to do about the sentences with which an RDS Proxy explains itself; empty
// if it is none of them.
// https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy.troubleshooting.html
func (w *walk) ofRDSProxy(message string) string {
	switch {
	case w.Name.Kind != auth.RDSProxy:
		return ""
	case strings.Contains(message, "has no credentials for the role"):
		return inWords("the RDS Proxy has to have a secret for " + w.User)
	case strings.Contains(message, "IAM authentication is not allowed for the role"):
		return inWords("the RDS Proxy has to take IAM authentication (IAMAuth REQUIRED) for " + w.User)
	default:
		return ""
	}
}

// explainNotAsked is about a server that wants another kind of password, as it does of
// those that it does not know, too.
func (w *walk) explainNotAsked(found string) result {
	switch {
	case w.seen.iamOff:
		return failed(found+": IAM authentication is off", w.enableIAM(*w.seen.database))
	case w.Name.Kind == auth.RDSProxy:
		return failed(found, inWords("the RDS Proxy has to take IAM authentication (IAMAuth REQUIRED), and to have a secret for "+w.User))
	}
	found += fmt.Sprintf(": there is no database user %s, or it has no rds_iam", quoteSQL(w.User))
	if w.seen.database == nil {
		found += ", or IAM authentication is off, which could not be looked at"
	}
	return failed(found, w.grant())
}

// grant is the command that makes the user, or gives it what it lacks, at an instance that
// takes writes. Where the administrator's password is, is left to PGPASSWORD: a line that set it
// would hide the one that somebody has exported, and grant says what it lacks.
func (w *walk) grant() string {
	options := slices.Clone(w.Options.Reach)
	at := *w.Check
	at.Target = ""
	if d := w.seen.database; d != nil {
		if (w.Name.Kind == auth.Reader || w.Name.Kind == auth.Custom) && d.Writer != "" {
			at.Host = d.Writer
		}
		switch {
		case d.MasterSecret != "":
			options = slices.Concat(options, w.Options.Sign, []string{"--admin-secret", d.MasterSecret})
		case d.MasterUser != "" && d.MasterUser != "postgres":
			options = append(options, "--admin-user", d.MasterUser)
		}
	}
	return (&walk{Check: &at}).line("grant", w.Region, options...)
}

// explainRefused is about a token that was refused without a reason, as all are.
func (w *walk) explainRefused(found string) result {
	if to := guilty(w.steps, w.seen); to.State == Failed {
		return failed(found+"; see "+to.Name, to.Next)
	}
	found += ": " + unexplained(w.steps)
	switch {
	case w.Name.Kind == auth.DSQL && w.User != "admin" && w.stateOf(Policy) == OK:
		return failed(found+"; as admin, the user must have been given to the role", fmt.Sprintf("AWS IAM GRANT %s TO 'ROLE_ARN';", quoteSQL(w.User)))
	case w.stateOf(Policy) != OK:
		return failed(found, w.document())
	default:
		return failed(found, w.log())
	}
}

// log is the line that shows the reason, if the log is exported.
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/UsingWithRDS.IAMDBAuth.Troubleshooting.html
func (w *walk) log() string {
	d := w.seen.database
	if d == nil || d.Kind == auth.DSQL || d.Kind == auth.RDSProxy {
		return inWords("CloudTrail, or the log of the database, may have the reason")
	}
	return w.awsLine("logs", "tail", fmt.Sprintf("/aws/rds/%s/%s/iam-db-auth-error", describe(*d), d.Identifier), "--since", "15m")
}

// afterLogin is what to do about what the server says to a token that it has taken.
func (w *walk) afterLogin(said *pgconn.PgError) string {
	user, database := quoteSQL(w.User), quoteSQL(w.Database)
	switch said.Code {
	case "3D000": // invalid_catalog_name
		return inWords("name a database that there is with --database, or make it, as an administrator: CREATE DATABASE " + database)
	case "42501": // insufficient_privilege
		return fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s;", database, user)
	case "28000": // invalid_authorization_specification
		return fmt.Sprintf("ALTER ROLE %s LOGIN;", user) // all else of it is about the token
	case "53300": // too_many_connections
		return "SELECT usename, application_name, state, count(*) FROM pg_stat_activity GROUP BY 1, 2, 3 ORDER BY 4 DESC;"
	case "57P03": // cannot_connect_now
		return w.again()
	default:
		return inWords("")
	}
}

// serverText is what a server says. Its hint is no advice of ours, except where it refuses a
// token, to which the proxy adds one of its own that the steps make superfluous.
func serverText(said *pgconn.PgError) string {
	text := fmt.Sprintf("%s (%s)", said.Message, said.Code)
	if said.Hint != "" && !strings.HasPrefix(said.Code, "28") {
		text += "; " + said.Hint
	}
	return text
}

// rdsIAM is whether the user that has logged in would be let in with a token by its
// membership. It is sure only now: who has none is not known from outside.
func (w *walk) rdsIAM(ctx context.Context) result {
	if w.Name.Kind == auth.DSQL || w.Name.Kind == auth.RDSProxy {
		return doesNotApply(string(w.Name.Kind) + " goes by other things")
	}
	member, err := w.ask(ctx, "SELECT bool_or(pg_catalog.pg_has_role(session_user, oid, 'member')) FROM pg_catalog.pg_roles WHERE rolname = 'rds_iam'")
	switch {
	case err != nil:
		return failed(err.Error(), w.again())
	case member == "t":
		return ok(w.User + " has it")
	case member == "":
		return failed("there is no role rds_iam: this is not an RDS or Aurora database, or IAM authentication was never enabled on it", w.grant())
	default:
		return failed(w.User+" does not have it, and was let in for another reason", w.grant())
	}
}

// writes is whether the instance takes them, where it has to.
func (w *walk) writes(ctx context.Context) result {
	if w.Name.Kind == auth.DSQL {
		return ok("every endpoint of Aurora DSQL takes writes")
	}
	reader, err := w.ask(ctx, "SELECT pg_catalog.pg_is_in_recovery()")
	if err != nil {
		return failed(err.Error(), w.again())
	}
	readOnly := w.conn.ParameterStatus("default_transaction_read_only") == "on"
	switch {
	case reader == "t" && w.Writer:
		return failed("leads to an instance that takes no writes, as in a failover, or by a name that DNS has not forgotten yet", w.again())
	case reader == "t":
		return ok("reads only")
	case readOnly:
		return ok("takes writes, but transactions begin read-only (default_transaction_read_only)")
	default:
		return ok("takes writes")
	}
}

// rounds is how many round trips are measured.
const rounds = 5

// roundTrip is what each statement costs at the least.
func (w *walk) roundTrip(ctx context.Context) result {
	var took []time.Duration
	for range rounds {
		began := time.Now()
		if _, err := w.ask(ctx, "SELECT 1"); err != nil {
			return failed(err.Error(), w.again())
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return ok(fmt.Sprintf("%.2f ms, the median of %d", float64(took[rounds/2].Microseconds())/1000, rounds))
}

// ask runs a query that answers with one value; NULL is empty.
func (w *walk) ask(ctx context.Context, query string) (string, error) {
	results, err := w.conn.Exec(ctx, query).ReadAll()
	var said *pgconn.PgError
	switch {
	case errors.As(err, &said):
		return "", errors.New(serverText(said))
	case err != nil:
		return "", err
	case len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 1:
		return "", errors.New("the server does not answer with one value")
	}
	return string(results[0].Rows[0][0]), nil
}
