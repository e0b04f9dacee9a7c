package fakeaws

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/test/sigv4"
)

// The limits of DurationSeconds.
const (
	minDuration = 900
	maxDuration = 43200
)

// sessionName matches a valid RoleSessionName.
var sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

// sts serves the AWS Security Token Service API, in XML.
func (a *AWS) sts(w http.ResponseWriter, r *http.Request, path string) {
	a.query(w, r, path, stsNamespace, a.act)
}

func (a *AWS) act(r *http.Request, body []byte, form url.Values) (answer any, refused *refusal) {
	action := form.Get("Action")
	switch action {
	case "AssumeRoleWithWebIdentity":
		return a.assumeRoleWithWebIdentity(form)
	case "AssumeRole", "GetCallerIdentity":
	default:
		return nil, invalidAction(form)
	}
	caller, refused := a.caller(r, body)
	if refused != nil {
		return nil, refused
	}
	if action == "AssumeRole" {
		return a.assumeRole(caller, form)
	}
	parsed, _ := parseARN(caller)
	return callerIdentityResponse{
		Result:    callerIdentity{Arn: caller, UserID: userID(caller), Account: parsed.account},
		RequestID: newRequestID(),
	}, nil
}

// caller returns the ARN of the identity that signed r. The errors are in the IAM User
// Guide, under "Common errors". The messages are those of STS.
func (a *AWS) caller(r *http.Request, body []byte) (string, *refusal) {
	now := a.now()
	id, err := sigv4.VerifyHeader(r, body, a.find, now)
	const day = "20060102T150405Z"
	switch signed := r.Header.Get("X-Amz-Date"); {
	case r.Header.Get("Authorization") == "":
		return "", &refusal{403, "MissingAuthenticationToken", "Request is missing Authentication Token"}
	case errors.Is(err, sigv4.ErrMalformed):
		return "", &refusal{403, "IncompleteSignature", "The request signature does not conform to AWS standards: " + err.Error()}
	case errors.Is(err, sigv4.ErrUnknownKey), errors.Is(err, sigv4.ErrSessionToken):
		return "", &refusal{403, "InvalidClientTokenId", "The security token included in the request is invalid."}
	case errors.Is(err, sigv4.ErrNotYetValid):
		return "", &refusal{403, "SignatureDoesNotMatch", fmt.Sprintf("Signature not yet current: %s is still later than %s (%s + 5 min.)",
			signed, now.Add(sigv4.MaxSkew).Format(day), now.Format(day))}
	case errors.Is(err, sigv4.ErrExpired):
		return "", &refusal{403, "SignatureDoesNotMatch", fmt.Sprintf("Signature expired: %s is now earlier than %s (%s - 5 min.)",
			signed, now.Add(-sigv4.MaxSkew).Format(day), now.Format(day))}
	case err != nil:
		return "", &refusal{403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. " +
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details."}
	}
	c, _ := a.credential(id)
	if !c.key.Expires.IsZero() && !now.Before(c.key.Expires) {
		return "", &refusal{403, "ExpiredToken", "The security token included in the request is expired"}
	}
	return c.arn, nil
}

func (a *AWS) assumeRole(caller string, form url.Values) (any, *refusal) {
	s, refused := readSession(form)
	if refused != nil {
		return nil, refused
	}
	if roleOf(caller) != "" && s.life > time.Hour {
		return nil, invalid("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	}
	if !a.trusts(form.Get("RoleArn"), caller, form.Get("ExternalId")) {
		return nil, &refusal{403, "AccessDenied",
			"User: " + caller + " is not authorized to perform: sts:AssumeRole on resource: " + form.Get("RoleArn")}
	}
	return assumeRoleResponse{Result: a.startSession(s), RequestID: newRequestID()}, nil
}

func (a *AWS) assumeRoleWithWebIdentity(form url.Values) (any, *refusal) {
	s, refused := readSession(form)
	if refused != nil {
		return nil, refused
	}
	switch a.judgeWebIdentity(form.Get("RoleArn"), form.Get("WebIdentityToken")) {
	case webIdentityDenied:
		return nil, &refusal{403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"}
	case webIdentityExpired:
		return nil, &refusal{400, "ExpiredTokenException", "Token expired: current date/time must be before the expiration date/time"}
	case webIdentityWrong:
		return nil, &refusal{400, "InvalidIdentityToken", "The web identity token that was passed could not be validated by AWS"}
	}
	return webIdentityResponse{
		Result: webIdentityResult{
			assumedRole: a.startSession(s),
			Subject:     "system:serviceaccount:default:fake",
			Audience:    "sts.amazonaws.com",
			Provider:    "arn:aws:iam::" + s.role.account + ":oidc-provider/oidc.example",
		},
		RequestID: newRequestID(),
	}, nil
}

// session describes a session of a role to be started.
type session struct {
	role arn
	name string
	life time.Duration
}

// readSession checks the parameters that the requests for a session share.
func readSession(form url.Values) (session, *refusal) {
	role, ok := parseARN(form.Get("RoleArn"))
	if !ok || role.service != "iam" || !strings.HasPrefix(role.resource, "role/") {
		return session{}, invalid("%s is invalid", form.Get("RoleArn"))
	}
	s := session{role: role, name: form.Get("RoleSessionName"), life: defaultLife}
	if !sessionName.MatchString(s.name) {
		return session{}, invalid("1 validation error detected: Value '%s' at 'roleSessionName' failed to satisfy constraint: "+
			`Member must satisfy regular expression pattern: [\w+=,.@-]*`, s.name)
	}
	if text := form.Get("DurationSeconds"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < minDuration || seconds > maxDuration {
			return session{}, invalid("1 validation error detected: Value '%s' at 'durationSeconds' failed to satisfy constraint: "+
				"Member must have value between %d and %d", text, minDuration, maxDuration)
		}
		s.life = time.Duration(seconds) * time.Second
	}
	return s, nil
}

// startSession issues the keys.
func (a *AWS) startSession(s session) assumedRole {
	who := sessionARN(s.role, s.name)
	key := a.issue(who, s.life)
	return assumedRole{
		User: assumedRoleUser{Arn: who, AssumedRoleID: userID(who)},
		Credentials: stsCredentials{
			AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey,
			SessionToken: key.SessionToken, Expiration: key.Expires.Format(time.RFC3339),
		},
	}
}
