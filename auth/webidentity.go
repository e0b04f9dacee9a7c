package auth

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"os"
	"strconv"
	"strings"
)

// webIdentityFile returns the path of the file with the web identity token, and the setting that
// names it.
func (i *Identity) webIdentityFile() (setting, path string) {
	const variable = "AWS_WEB_IDENTITY_TOKEN_FILE"
	if path := os.Getenv(variable); path != "" && i.Profile == "" {
		return variable, path
	}
	files := readSharedFiles()
	return "web_identity_token_file", files.profile(cmp.Or(i.profile(), defaultProfile))["web_identity_token_file"]
}

// webIdentityAdvice returns the hint about a role that STS does not let the holder of the web
// identity token assume. It has the claims of the token that the trust policy must name.
func (i *Identity) webIdentityAdvice() string {
	advice := "Check that the role exists, and that its trust policy allows the OIDC provider and the subject of the token"
	var claims struct{ Iss, Sub string }
	_, path := i.webIdentityFile()
	token, _ := os.ReadFile(path)
	if parts := strings.Split(string(token), "."); len(parts) == 3 {
		payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(payload, &claims)
	}
	if claims.Iss != "" && claims.Sub != "" {
		advice += ", " + strconv.Quote(claims.Iss) + " and " + strconv.Quote(claims.Sub)
	}
	return advice + " (sts:AssumeRoleWithWebIdentity). In EKS, these are the OIDC provider of this cluster and system:serviceaccount:NAMESPACE:NAME."
}
