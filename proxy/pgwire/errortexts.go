package pgwire

import (
	"fmt"
	"strings"
)

// errorText is the text of a Reason, as the client is sent it. NewError has the values for the
// verbs of message, which are those of package fmt. A hint that depends on the configuration or on
// the cause replaces the one here.
type errorText struct {
	code    string // SQLSTATE
	message string
	hint    string
	stage   stage
}

// stage is the progress of a connection when it fails.
type stage int

const (
	beforeLogin stage = iota // the client's first packets, or a limit of the proxy
	rejected                 // the client was rejected before any attempt to log in
	inLogin                  // an attempt to log in failed, and `iamproxy check` finds the cause
)

// texts holds the message and the default hint of each Reason. CannotConnectNow is the code of
// failures that may pass: with it, libpq and drivers like it try the next host, and pg_isready
// reports that the server rejects connections.
var texts = map[Reason]errorText{
	StartupTimeout:          {ConnectionFailure, "no complete startup packet within %v", "The limit is --connect-timeout.", beforeLogin},
	StartupIncomplete:       {ProtocolViolation, "incomplete startup packet", "", beforeLogin},
	StartupLengthInvalid:    {ProtocolViolation, "invalid length of startup packet: %d bytes, expected 8 to %d", "", beforeLogin},
	StartupLayoutInvalid:    {ProtocolViolation, "invalid startup packet layout: expected terminator as last byte", "", beforeLogin},
	StartupTooLong:          {ProtocolViolation, "startup packet is too long with --user and --database", "Shorten the options that the client sends.", beforeLogin},
	ProtocolUnsupported:     {FeatureNotSupported, "unsupported frontend protocol %d.%d: only version 3 is supported", "", beforeLogin},
	HTTPRequest:             {ProtocolViolation, "received an HTTP request on a port for PostgreSQL clients", "Health checks, metrics and the status page are at the address of --admin.", beforeLogin},
	UserMissing:             {InvalidAuthorization, "no PostgreSQL user name specified in startup packet", "Set the user in the client's connection string, or start iamproxy with --user.", beforeLogin},
	ClientTLSDisabled:       {ProtocolViolation, "client started TLS, which is off", "Set sslmode=disable in the client, or start iamproxy with --listen-tls self-signed.", beforeLogin},
	ClientALPNMissing:       {ProtocolViolation, `client started TLS without the ALPN protocol "postgresql"`, "Set sslnegotiation=postgres in the client, or use a client that supports direct TLS as of PostgreSQL 17.", beforeLogin},
	ClientTLSNested:         {ProtocolViolation, "client requested encryption inside TLS", "", beforeLogin},
	ClientTLSRepeated:       {ProtocolViolation, "client requested the same encryption twice", "", beforeLogin},
	ClientDataBeforeTLS:     {ProtocolViolation, "received unencrypted data after SSL request", "This is either a bug of the client software or evidence of an attempted man-in-the-middle attack.", beforeLogin},
	ClientTLSFailed:         {ProtocolViolation, "TLS handshake with the client failed", "See the error of the client. If it verifies certificates, it must trust the one of --listen-tls.", beforeLogin},
	ClientTLSDeclined:       {ProtocolViolation, "client requires TLS, which is off", "Start iamproxy with --listen-tls self-signed, or set sslmode=disable (or prefer) in the client. If this is a health check, let it connect without requesting TLS.", beforeLogin},
	ClientGSSDeclined:       {ProtocolViolation, "client requires GSSAPI encryption, which is not supported", "Set gssencmode=disable (or prefer) in the client.", beforeLogin},
	ClientTLSRequired:       {InvalidAuthorization, "connection without TLS, which is required here", "Use sslmode=require or stricter in the client.", rejected},
	ClientCertMissing:       {InvalidAuthorization, "connection requires a valid client certificate", "Give the client a certificate that a CA in --client-ca has issued, and its key (sslcert and sslkey). Some clients do not send a certificate that another CA issued.", rejected},
	ClientCertInvalid:       {InvalidAuthorization, `client certificate "%s" is not accepted`, "Use a certificate that a CA in --client-ca has issued for client authentication, with its intermediate certificates.", rejected},
	ClientCertUser:          {InvalidAuthorization, `client certificate "%s" does not name user "%s"`, "Connect as a user that the certificate names, or use another certificate.", rejected},
	ClientAddressNotAllowed: {InvalidAuthorization, "connections from %s are not allowed", "If this client may use the database, add its address to --allow-from.", rejected},
	ClientUserNotAllowed:    {InvalidAuthorization, "%v", "", rejected},

	ShuttingDown:          {CannotConnectNow, "shutting down", "Connect again in a moment.", rejected},
	TooManySessions:       {TooManyConnections, "too many clients already (limit %d)", "", rejected},
	TooManyPending:        {TooManyConnections, "too many connections waiting for a startup packet (limit %d)", "Check for clients or health checks that connect without sending a startup packet.", rejected},
	QueueFull:             {CannotConnectNow, "could not begin the login within %v", "More clients connect than --connect-rate lets log in, and AWS accepts 200 logins a second. Use a connection pool in the application, or --pool.", beforeLogin},
	FileDescriptorsUsedUp: {CannotConnectNow, "could not connect to %s", "Raise the limit of open files of this process or system (ulimit -n, LimitNOFILE), or set --max-sessions: a session uses two.", beforeLogin},

	ResolveFailed:       {CannotConnectNow, `could not resolve host name "%s"`, "Check the DNS servers of this host.", inLogin},
	DialRefused:         {CannotConnectNow, "could not connect to %s", "Check that the database is running, and that the port is right.", inLogin},
	DialFailed:          {CannotConnectNow, "could not connect to %s", "Check that the database is running, and that security groups and routes let this host reach it.", inLogin},
	SOCKSRefused:        {CannotConnect, "SOCKS proxy refused the connection to %s", "", inLogin},
	NoAnswer:            {CannotConnectNow, "no answer from %s in time", "Check that the database is running, and that security groups and routes let this host reach it.", inLogin},
	ConnectionClosed:    {CannotConnectNow, "%s closed the connection during login", "If this persists, see the log of the database.", inLogin},
	ConnectionBroken:    {CannotConnectNow, "connection to %s broke during login", "If this persists, see the log of the database.", inLogin},
	TLSNotOffered:       {CannotConnect, "%s does not offer TLS", "iamproxy sends a token only over TLS. Check the host and port, and that no proxy intercepts the connection.", inLogin},
	TLSRequestRejected:  {CannotConnect, "%s answered the request for TLS with an error", "See the log of the database. The text is not shown because the server is not yet authenticated.", inLogin},
	TLSRequestUnknown:   {CannotConnect, "%s answered the request for TLS with %q", "Check that this is the port of a PostgreSQL server.", inLogin},
	TLSFailed:           {CannotConnect, "could not establish TLS with %s", "Check that this is the port of the database, and that no proxy intercepts the connection.", inLogin},
	TLSWrongName:        {CannotConnect, `the certificate of %s is not for host name "%s"`, "ENDPOINT must be the name that AWS assigned to the database. Set any other name with via=.", inLogin},
	TLSUntrusted:        {CannotConnect, "the certificate of %s is not trusted", "Find out who issued it. If TLS inspection of your network did, exempt the database from it. Set --ca-file only for a test database with its own root.", inLogin},
	TLSExpired:          {CannotConnect, "the certificate of %s is not valid now", "Check this machine's clock. If it is right, the database needs a new certificate.", inLogin},
	TLSCertificateBad:   {CannotConnect, "the certificate of %s is not accepted", "Check that the connection leads to the database. If it does, the database needs a new certificate.", inLogin},
	TLSDirectNotOffered: {CannotConnect, "could not establish direct TLS with %s", "Direct TLS requires PostgreSQL 17 or later. If the server is older, remove sslnegotiation=direct.", inLogin},

	SSMTargetUnavailable: {CannotConnectNow, "could not open the Session Manager session to %s", "Check that the target is running, that its SSM Agent is, and that its role has the policy AmazonSSMManagedInstanceCore.", inLogin},
	SSMAccessDenied:      {InvalidAuthorization, "could not open the Session Manager session to %s", "`iamproxy policy` with the same --via prints the policy.", inLogin},
	SSMAgentUnsupported:  {CannotConnect, "could not open the Session Manager session to %s", "Update SSM Agent on the target.", inLogin},
	SSMUnreachable:       {CannotConnectNow, "could not open the Session Manager session to %s", "Check that this host reaches the endpoints ssm and ssmmessages of the region.", inLogin},
	SSMConnectFailed:     {CannotConnectNow, "%s could not connect to %s", "", inLogin},
	SSMSessionEnded:      {CannotConnectNow, "the Session Manager session to %s ended", "Connect again: the next client opens a new session.", inLogin},

	NoToken:            {InvalidAuthorization, `no token for user "%s"`, "", inLogin},
	TokenTimeout:       {CannotConnectNow, `no token for user "%s" in time`, "", inLogin},
	PasswordRequested:  {InvalidAuthorization, `server requested %s authentication for user "%s" instead of a token`, "", inLogin},
	PasswordRepeated:   {ProtocolViolation, "server requested the password twice", "", inLogin},
	AuthRequestInvalid: {ProtocolViolation, "invalid authentication request from server", "", inLogin},
	NotWritable:        {CannotConnectNow, "no writable instance: %s %s", "After a failover iamproxy looks for the writer until --connect-timeout. For sessions on a reader use the reader endpoint, or target=any.", inLogin},
	WritableUnknown:    {ConnectionFailure, "could not determine whether %s is writable", "Grant the user access to pg_settings, or set target=any to skip this check.", inLogin},
	WritableInvalid:    {ProtocolViolation, "unexpected answer %q from server to the query whether it is writable", "", inLogin},
	MessageInvalid:     {ProtocolViolation, "invalid message from server during login: type %q, length %d", "", inLogin},
	MessagesTooLong:    {ProtocolViolation, "server sent too much data before the session", "", inLogin},
	ErrorInvalid:       {ProtocolViolation, "invalid error message from server", "", inLogin},
	ErrorWithoutCode:   {ProtocolViolation, "error message from server has no SQLSTATE", "", inLogin},
}

// serverHints holds the hints that are added to errors of the server. "{user}" stands for the user.
var serverHints = map[Reason]string{ //nolint:gosec // no credential
	ProxySecretMissing: `The RDS Proxy has no secret for user "{user}". Create one with this user name in Secrets Manager, add it to the proxy, and allow the proxy's role to read it. The log group /aws/rds/proxy/NAME may say more.`,
	ProxyIAMNotAllowed: `The RDS Proxy does not allow IAM authentication for user "{user}". If no client logs in there with this password, set IAM authentication to Required for the user's secret. Otherwise create another RDS Proxy for tokens.`,
	ProxyThrottled:     "RDS Proxy throttles IAM logins. Open fewer new connections: use a connection pool in the application, or --pool.",
}

// ServerHint returns the hint for an error of the server with the reason, which refused user. It is
// empty if the server's message suffices.
func ServerHint(reason Reason, user string) string {
	return strings.ReplaceAll(serverHints[reason], "{user}", user)
}

// NewError returns the Error of a reason. err is the cause, or nil; args are the values for the
// verbs in the reason's message.
func NewError(reason Reason, err error, args ...any) *Error {
	t := texts[reason]
	return &Error{
		Reason:    reason,
		Code:      t.code,
		Message:   fmt.Sprintf(t.message, args...),
		Hint:      t.hint,
		Err:       err,
		Rejected:  t.stage == rejected,
		checkable: t.stage == inLogin,
	}
}
