package pgwire

import "fmt"

// errorText is the text of a Reason, as the client is sent it. NewError has the values for the
// verbs of message, which are those of package fmt. A hint that depends on the configuration or on the error
// underneath replaces the one here.
type errorText struct {
	code     string // SQLSTATE
	message  string
	hint     string
	rejected bool // the client was rejected before any attempt to log in
}

// texts holds the message and the default hint of each Reason.
var texts = map[Reason]errorText{
	StartupTimeout:          {ConnectionFailure, "no complete startup packet within %v", "--connect-timeout is how long to wait", false},
	StartupIncomplete:       {ProtocolViolation, "incomplete startup packet", "", false},
	StartupLengthInvalid:    {ProtocolViolation, "invalid length of startup packet: %d bytes, not 8 to %d", "", false},
	StartupLayoutInvalid:    {ProtocolViolation, "invalid startup packet layout: expected terminator as last byte", "", false},
	StartupTooLong:          {ProtocolViolation, "the startup packet is too long with --user and --database", "shorten what the client sends in options", false},
	ProtocolUnsupported:     {FeatureNotSupported, "unsupported frontend protocol %d.%d: version 3 is supported", "", false},
	HTTPRequest:             {ProtocolViolation, "the client speaks HTTP; this port speaks PostgreSQL's protocol", "", false},
	UserMissing:             {InvalidAuthorization, "no PostgreSQL user name specified in startup packet", "name the user in the client's connection string, or with --user", false},
	ClientTLSDisabled:       {ProtocolViolation, "the client started TLS, and there is none here", "use sslmode=disable in the client, or --listen-tls here", false},
	ClientALPNMissing:       {ProtocolViolation, "the client started TLS without naming the protocol (ALPN) postgresql", "use sslnegotiation=postgres, or a client that speaks PostgreSQL 17's direct TLS", false},
	ClientTLSNested:         {ProtocolViolation, "the client asks for encryption inside TLS", "", false},
	ClientTLSRepeated:       {ProtocolViolation, "the client asks for the same encryption twice", "", false},
	ClientDataBeforeTLS:     {ProtocolViolation, "received unencrypted data behind the request for TLS", "this is a client that does not wait for the answer, or somebody between it and iamproxy", false},
	ClientTLSRequired:       {InvalidAuthorization, "connection without TLS, which is required here", "Use sslmode=require or stricter in the client.", true},
	ClientCertMissing:       {InvalidAuthorization, "connection requires a valid client certificate", "Give the client a certificate that a CA in --client-ca has issued, and its key (sslcert and sslkey).", true},
	ClientCertInvalid:       {InvalidAuthorization, "client certificate \"%s\" is not accepted", "Use a certificate that a CA in --client-ca has issued for client authentication, with its intermediate certificates.", true},
	ClientCertUser:          {InvalidAuthorization, "client certificate \"%s\" does not name user \"%s\"", "Connect as a user that the certificate names, or use another certificate.", true},
	ClientAddressNotAllowed: {InvalidAuthorization, "clients from %s may not connect", "--allow-from has the addresses that may", true},
	ClientUserNotAllowed:    {InvalidAuthorization, "%v", "", true},

	ShuttingDown:          {CannotConnectNow, "shutting down", "connect again in a moment", true},
	TooManySessions:       {TooManyConnections, "too many clients: there are %d already", "", true},
	TooManyPending:        {TooManyConnections, "too many clients connect at once: this one had sent no startup packet for %v when %d others were there", "find out who connects and says nothing; a client of PostgreSQL sends its startup packet at once", true},
	QueueFull:             {ConnectionFailure, "the login cannot begin within %v", "--connect-rate is how many begin in a second; AWS takes 200", false},
	FileDescriptorsUsedUp: {CannotConnect, "cannot reach %s: no file descriptor is left", "a session takes two; raise the limit (ulimit -n, LimitNOFILE), or set --max-sessions", false},

	ResolveFailed:       {CannotConnect, "cannot resolve %s", "check the name, and that this host uses the DNS of the database's network", false},
	DialRefused:         {CannotConnect, "cannot reach %s", "check that the database runs, and that security groups and routes let this host reach it", false},
	DialFailed:          {CannotConnect, "cannot reach %s", "check that the database runs, and that security groups and routes let this host reach it", false},
	SOCKSRefused:        {CannotConnect, "cannot reach %s: the proxy refuses", "check the user, password and rules of the SOCKS5 proxy, and that it reaches the database", false},
	NoAnswer:            {ConnectionFailure, "no answer from %s in time", "check that security groups and routes let this host reach the database", false},
	ConnectionClosed:    {ConnectionFailure, "%s closed the connection during login", "the database's log may say why", false},
	ConnectionBroken:    {ConnectionFailure, "the connection to %s broke during login", "the database's log may say why", false},
	TLSNotOffered:       {CannotConnect, "%s does not offer TLS", "a token is never sent without it; check that this is the database's port, and that nothing in between speaks for it", false},
	TLSRequestRejected:  {CannotConnect, "%s answered the request for TLS with an error", "the database's log has its text; it is not shown since nobody vouches for it", false},
	TLSRequestUnknown:   {CannotConnect, "%s answered the request for TLS with %q", "check that this is a PostgreSQL server's port", false},
	TLSFailed:           {CannotConnect, "no TLS with %s", "check that this is the database's port", false},
	TLSWrongName:        {CannotConnect, "%s has no certificate for %s", "ENDPOINT must be the name that AWS gave the database; a name of your own in front of it goes into via=", false},
	TLSUntrusted:        {CannotConnect, "the certificate of %s is not trusted", "the built-in roots are those of RDS and of the system; --ca-file names others", false},
	TLSExpired:          {CannotConnect, "the certificate of %s is not valid now", "check this machine's clock; if it is right, the database needs a new certificate", false},
	TLSCertificateBad:   {CannotConnect, "the certificate of %s is not accepted", "the database needs another certificate", false},
	TLSDirectNotOffered: {CannotConnect, "no direct TLS with %s", "only PostgreSQL 17 and later take sslnegotiation=direct; leave it out", false},

	NoToken:            {InvalidAuthorization, "no token for %s", "", false},
	TokenTimeout:       {ConnectionFailure, "no token for %s", "", false},
	PasswordRequested:  {InvalidAuthorization, "the server asks %s for %s, not for a token", "", false},
	PasswordRepeated:   {ProtocolViolation, "the server asked for the password twice", "", false},
	AuthRequestInvalid: {ProtocolViolation, "the server sent an authentication request that cannot be read", "", false},
	NotWritable:        {ReadOnlyTransaction, "no instance that takes writes: %s %s", "after a failover it is looked for again until --connect-timeout; for a session on a reader use the reader endpoint, or target=any", false},
	WritableUnknown:    {ConnectionFailure, "cannot tell whether %s takes writes", "the user has to be allowed to read pg_settings; with target=any nobody asks", false},
	WritableInvalid:    {ProtocolViolation, "the server answered %q when asked whether it takes writes", "", false},
	MessageInvalid:     {ProtocolViolation, "the server sent a message of type %q with the length %d during login", "", false},
	MessagesTooLong:    {ProtocolViolation, "the server sends too much before the session begins", "", false},
	ErrorInvalid:       {ProtocolViolation, "the server sent an error that cannot be read", "", false},
	ErrorWithoutCode:   {ProtocolViolation, "the server sent an error without a code", "", false},
}

// NewError returns the Error of a reason. err is the error underneath, or nil; args are
// the values for the verbs in the reason's message.
func NewError(reason Reason, err error, args ...any) *Error {
	t := texts[reason]
	return &Error{
		Reason:   reason,
		Code:     t.code,
		Message:  fmt.Sprintf(t.message, args...),
		Hint:     t.hint,
		Err:      err,
		Rejected: t.rejected,
	}
}
