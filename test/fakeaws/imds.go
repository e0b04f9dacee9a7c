package fakeaws

import (
	"crypto/rand"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	imdsRole        = "instance"
	imdsCredentials = "meta-data/iam/security-credentials/"
)

// maxSession is the longest life of a token of IMDS, in seconds.
const maxSession = 21600

// imds serves version 2 of the instance metadata service, for credentials only. path is
// without the leading /latest/.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html
func (a *AWS) imds(w http.ResponseWriter, r *http.Request, path string) {
	if path == "api/token" {
		a.startIMDSSession(w, r)
		return
	}
	if r.Method != http.MethodGet {
		http.Error(w, "only GET is known", http.StatusMethodNotAllowed)
		return
	}
	if !a.inIMDSSession(r.Header.Get("X-Aws-Ec2-Metadata-Token")) {
		http.Error(w, "no session", http.StatusUnauthorized)
		return
	}
	switch path {
	case imdsCredentials:
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, imdsRole)
	case imdsCredentials + imdsRole:
		a.imdsCredentials(w)
	default:
		http.NotFound(w, r)
	}
}

// startIMDSSession answers the request for a token.
func (a *AWS) startIMDSSession(w http.ResponseWriter, r *http.Request) {
	const header = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	if r.Method != http.MethodPut {
		http.Error(w, "only PUT is known", http.StatusMethodNotAllowed)
		return
	}
	seconds, err := strconv.Atoi(r.Header.Get(header))
	if err != nil || seconds < 1 || seconds > maxSession {
		http.Error(w, "bad time to live", http.StatusBadRequest)
		return
	}
	token := rand.Text()
	a.mu.Lock()
	if a.sessions == nil {
		a.sessions = make(map[string]time.Time)
	}
	a.sessions[token] = time.Now().Add(time.Duration(seconds) * time.Second)
	a.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set(header, strconv.Itoa(seconds))
	_, _ = io.WriteString(w, token)
}

func (a *AWS) inIMDSSession(token string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Now().Before(a.sessions[token])
}

func (a *AWS) imdsCredentials(w http.ResponseWriter) {
	key := a.issue(IMDSARN, defaultLife)
	writeJSON(w, http.StatusOK, map[string]string{
		"Code":            "Success",
		"LastUpdated":     a.now().Format(time.RFC3339),
		"Type":            "AWS-HMAC",
		"AccessKeyId":     key.AccessKeyID,
		"SecretAccessKey": key.SecretAccessKey,
		"Token":           key.SessionToken,
		"Expiration":      key.Expires.Format(time.RFC3339),
	})
}
