package fakeaws

import (
	"net/http"
	"time"
)

// The account of the roles of Container and IMDS.
const account = "111122223333"

// The owners of the keys of Container and IMDS.
const (
	ContainerARN = "arn:aws:sts::" + account + ":assumed-role/task/session"
	IMDSARN      = "arn:aws:sts::" + account + ":assumed-role/" + imdsRole + "/i-0123"
)

// RequireAuthorization makes Container reject requests whose Authorization header is not
// token. Empty: it accepts all.
func (a *AWS) RequireAuthorization(token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.secret = token
}

// container serves as the agent of ECS or of EKS Pod Identity, at any path.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
func (a *AWS) container(w http.ResponseWriter, r *http.Request, _ string) {
	if r.Method != http.MethodGet {
		http.Error(w, "only GET is known", http.StatusMethodNotAllowed)
		return
	}
	a.mu.Lock()
	secret := a.secret
	a.mu.Unlock()
	if secret != "" && r.Header.Get("Authorization") != secret {
		writeJSON(w, http.StatusUnauthorized, map[string]string{"code": "Unauthorized", "message": "invalid authorization token"})
		return
	}
	key := a.issue(ContainerARN, defaultLife)
	writeJSON(w, http.StatusOK, map[string]string{
		"RoleArn":         roleOf(ContainerARN),
		"AccessKeyId":     key.AccessKeyID,
		"SecretAccessKey": key.SecretAccessKey,
		"Token":           key.SessionToken,
		"Expiration":      key.Expires.Format(time.RFC3339),
	})
}
