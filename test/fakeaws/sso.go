package fakeaws

import (
	"encoding/json"
	"net/http"
)

// portal is the state of IAM Identity Center, which has one user.
type portal struct {
	accessToken     string // empty: not logged in
	accountID, role string
	refreshToken    string // empty: cannot be renewed
}

// AllowSSO makes the portal accept accessToken only, for one role. Its keys are those of
// arn:aws:sts::ACCOUNT:assumed-role/AWSReservedSSO_ROLE_0123456789abcdef/user.
func (a *AWS) AllowSSO(accessToken, accountID, roleName string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.portal.accessToken, a.portal.accountID, a.portal.role = accessToken, accountID, roleName
}

// AllowSSORefresh makes OIDC accept refreshToken only, and once. The new access token
// replaces the one of AllowSSO, for the same role, and comes with the next refresh token.
// Empty: OIDC accepts none.
func (a *AWS) AllowSSORefresh(refreshToken string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.portal.refreshToken = refreshToken
}

// sso serves GetRoleCredentials.
// https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html
func (a *AWS) sso(w http.ResponseWriter, r *http.Request, path string) {
	if r.Method != http.MethodGet || path != "federation/credentials" {
		http.NotFound(w, r)
		return
	}
	a.mu.Lock()
	known := a.portal
	a.mu.Unlock()
	token, query := r.Header.Get("X-Amz-Sso_bearer_token"), r.URL.Query()
	if token == "" || token != known.accessToken {
		writeException(w, 401, "UnauthorizedException", map[string]string{"message": "Session token not found or invalid"})
		return
	}
	if query.Get("account_id") != known.accountID || query.Get("role_name") != known.role {
		writeException(w, 403, "ForbiddenException", map[string]string{"message": "No access"})
		return
	}
	role := arn{partition: "aws", account: known.accountID, resource: "AWSReservedSSO_" + known.role + "_0123456789abcdef"}
	key := a.issue(sessionARN(role, "user"), defaultLife)
	writeJSON(w, http.StatusOK, map[string]any{"roleCredentials": map[string]any{
		"accessKeyId":     key.AccessKeyID,
		"secretAccessKey": key.SecretAccessKey,
		"sessionToken":    key.SessionToken,
		"expiration":      key.Expires.UnixMilli(),
	}})
}

// writeException answers with an error of the protocol restJson1.
func writeException(w http.ResponseWriter, status int, name string, body map[string]string) {
	w.Header().Set("X-Amzn-Errortype", name)
	writeJSON(w, status, body)
}

func writeJSON(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // fails if the client has disconnected
}
