package fakeaws

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"time"
)

// oidc serves CreateToken for a refresh token. The errors are those of OAuth 2.0 (RFC 6749
// section 5.2), with names of AWS.
// https://docs.aws.amazon.com/singlesignon/latest/OIDCAPIReference/API_CreateToken.html
func (a *AWS) oidc(w http.ResponseWriter, r *http.Request, path string) {
	if r.Method != http.MethodPost || path != "token" {
		http.NotFound(w, r)
		return
	}
	var request struct{ ClientID, ClientSecret, GrantType, RefreshToken string }
	switch err := json.NewDecoder(r.Body).Decode(&request); {
	case err != nil || request.GrantType == "":
		refuseGrant(w, 400, "InvalidRequestException", "invalid_request", "Invalid request")
	case request.ClientID == "" || request.ClientSecret == "":
		refuseGrant(w, 401, "InvalidClientException", "invalid_client", "Invalid client ID provided")
	case request.GrantType != "refresh_token":
		refuseGrant(w, 400, "UnsupportedGrantTypeException", "unsupported_grant_type", "Unsupported grant type")
	default:
		a.refresh(w, request.RefreshToken)
	}
}

func (a *AWS) refresh(w http.ResponseWriter, refreshToken string) {
	life := a.lifeOr(defaultLife)
	a.mu.Lock()
	good := refreshToken != "" && refreshToken == a.portal.refreshToken
	accessToken, next := "aoa"+rand.Text(), "aor"+rand.Text()
	if good {
		a.portal.accessToken, a.portal.refreshToken = accessToken, next
	}
	a.mu.Unlock()
	if !good {
		refuseGrant(w, 400, "InvalidGrantException", "invalid_grant", "Invalid refresh token provided")
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"accessToken":  accessToken,
		"expiresIn":    int(life / time.Second),
		"refreshToken": next,
		"tokenType":    "Bearer",
	})
}

func refuseGrant(w http.ResponseWriter, status int, exception, code, description string) {
	writeException(w, status, exception, map[string]string{"error": code, "error_description": description})
}
