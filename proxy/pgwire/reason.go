package pgwire

// Reason is a short constant for the cause of a failed connection. The log, the metrics, the
// status page and `iamproxy check` depend on it, never on the words of a message.
type Reason string

// Reasons that the client causes.
const (
	StartupTimeout          Reason = "startup_timeout"
	StartupIncomplete       Reason = "startup_incomplete"
	StartupLengthInvalid    Reason = "startup_length_invalid"
	StartupLayoutInvalid    Reason = "startup_layout_invalid"
	StartupTooLong          Reason = "startup_too_long"
	ProtocolUnsupported     Reason = "protocol_unsupported"
	HTTPRequest             Reason = "http_request"
	UserMissing             Reason = "user_missing"
	ClientTLSDisabled       Reason = "client_tls_disabled"
	ClientALPNMissing       Reason = "client_alpn_missing"
	ClientTLSNested         Reason = "client_tls_nested"
	ClientTLSRepeated       Reason = "client_tls_repeated"
	ClientDataBeforeTLS     Reason = "client_data_before_tls"
	ClientTLSFailed         Reason = "client_tls_failed"   // the handshake failed
	ClientTLSDeclined       Reason = "client_tls_declined" // the client disconnected when there was no TLS
	ClientGSSDeclined       Reason = "client_gss_declined" // the same for GSSAPI encryption
	ClientTLSRequired       Reason = "client_tls_required"
	ClientCertMissing       Reason = "client_certificate_missing"
	ClientCertInvalid       Reason = "client_certificate_invalid"
	ClientCertUser          Reason = "client_certificate_user"
	ClientAddressNotAllowed Reason = "client_address_not_allowed"
	ClientUserNotAllowed    Reason = "client_user_not_allowed"
)

// Reasons that the proxy's limits and state cause.
const (
	ShuttingDown          Reason = "shutting_down"
	TooManySessions       Reason = "too_many_sessions"
	TooManyPending        Reason = "too_many_pending"
	QueueFull             Reason = "queue_full"
	FileDescriptorsUsedUp Reason = "file_descriptors_used_up"
)

// Reasons of the way to the server.
const (
	ResolveFailed       Reason = "resolve_failed"
	DialRefused         Reason = "dial_refused"
	DialFailed          Reason = "dial_failed"
	SOCKSRefused        Reason = "socks_refused"
	NoAnswer            Reason = "no_answer"
	ConnectionClosed    Reason = "connection_closed"
	ConnectionBroken    Reason = "connection_broken"
	TLSNotOffered       Reason = "tls_not_offered"
	TLSRequestRejected  Reason = "tls_request_rejected"
	TLSRequestUnknown   Reason = "tls_request_unknown"
	TLSFailed           Reason = "tls_failed"
	TLSWrongName        Reason = "tls_wrong_name"
	TLSUntrusted        Reason = "tls_untrusted"
	TLSExpired          Reason = "tls_expired"
	TLSCertificateBad   Reason = "tls_certificate_bad"
	TLSDirectNotOffered Reason = "tls_direct_not_offered"
)

// Reasons of a session of Session Manager, through which the server is reached.
const (
	SSMTargetUnavailable Reason = "ssm_target_unavailable" // it is not connected, a tag names none or several, or AWS rejects the request
	SSMAccessDenied      Reason = "ssm_access_denied"      // a permission is missing
	SSMAgentUnsupported  Reason = "ssm_agent_unsupported"  // SSM Agent cannot forward connections in one session
	SSMUnreachable       Reason = "ssm_unreachable"        // the API or the WebSocket is not reached
	SSMConnectFailed     Reason = "ssm_connect_failed"     // the target does not reach the server
	SSMSessionEnded      Reason = "ssm_session_ended"
)

// Reasons of the login.
const (
	NoToken            Reason = "no_token"
	TokenTimeout       Reason = "token_timeout"
	PasswordRequested  Reason = "password_requested"
	PasswordRepeated   Reason = "password_repeated"
	AuthRequestInvalid Reason = "auth_request_invalid"
	NotWritable        Reason = "not_writable"
	WritableUnknown    Reason = "writable_unknown"
	WritableInvalid    Reason = "writable_invalid"
	MessageInvalid     Reason = "message_invalid"
	MessagesTooLong    Reason = "messages_too_long"
	ErrorInvalid       Reason = "error_invalid"
	ErrorWithoutCode   Reason = "error_without_code"
)

// Reasons of an ErrorResponse of the server. An Error never has them.
const (
	TokenRefused       Reason = "token_refused"         // class 28 in answer to a token
	LoginNotPermitted  Reason = "login_not_permitted"   // class 28 after the token was accepted: the role lacks LOGIN
	DSQLAccessDenied   Reason = "dsql_access_denied"    // Aurora DSQL refused the token
	ProxySecretMissing Reason = "proxy_secret_missing"  // RDS Proxy has no secret for the user
	ProxyIAMNotAllowed Reason = "proxy_iam_not_allowed" // RDS Proxy allows no IAM authentication for the user
	ProxyThrottled     Reason = "proxy_throttled"       // RDS Proxy refused the login for the number of logins
	ServerRefused      Reason = "server_refused"        // any other ErrorResponse
)

// FromServer reports whether the failure is an ErrorResponse of the server.
func (r Reason) FromServer() bool {
	switch r {
	case TokenRefused, LoginNotPermitted, DSQLAccessDenied, ProxySecretMissing, ProxyIAMNotAllowed, ProxyThrottled, ServerRefused:
		return true
	}
	return false
}

// Reasons returns all reasons of an Error, with their SQLSTATEs.
func Reasons() map[Reason]string {
	codes := make(map[Reason]string, len(texts))
	for reason, t := range texts {
		codes[reason] = t.code
	}
	return codes
}
