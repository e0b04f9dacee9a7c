package fakeaws

import (
	"cmp"
	"net/http"
	"strings"
	"time"
)

// Secret is a secret of Secrets Manager.
type Secret struct {
	ARN    string // arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-6RANDOM
	Value  string
	Binary bool // Value is SecretBinary, not SecretString
	// Key is the ARN of the KMS key that encrypts the secret. Readers need kms:Decrypt for
	// it. Zero: the key of Secrets Manager, which all may use.
	Key string
}

// SetSecret adds or replaces a secret.
func (a *AWS) SetSecret(s Secret) {
	a.mu.Lock()
	defer a.mu.Unlock()
	put(&a.secrets, s.ARN, s)
}

// secretsManager serves GetSecretValue of the Secrets Manager API.
func (a *AWS) secretsManager(w http.ResponseWriter, r *http.Request, path string) {
	a.json11(w, r, path, "secretsmanager", "secretsmanager", func(c caller, action string, body []byte) (any, *refusal) {
		if action != "GetSecretValue" {
			return nil, unknownOperation()
		}
		return a.getSecretValue(c, body)
	})
}

func (a *AWS) getSecretValue(c caller, body []byte) (any, *refusal) {
	request, refused := parse[struct{ SecretID string }](body)
	if refused != nil {
		return nil, refused
	}
	s, found := a.findSecret(c, request.SecretID)
	resource := cmp.Or(s.ARN, request.SecretID)
	if refused := a.notAuthorized(c.arn, "secretsmanager:GetSecretValue", resource); refused != nil {
		return nil, refused
	}
	if !found {
		return nil, &refusal{400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret."}
	}
	if s.Key != "" && a.notAuthorized(c.arn, "kms:Decrypt", s.Key) != nil {
		return nil, &refusal{400, "AccessDenied", "Access to KMS is not allowed"}
	}
	answer := map[string]any{"ARN": s.ARN, "Name": nameOf(s), "CreatedDate": time.Unix(0, 0).Unix(), "VersionId": newRequestID(), "VersionStages": []string{"AWSCURRENT"}}
	if s.Binary {
		answer["SecretBinary"] = []byte(s.Value)
	} else {
		answer["SecretString"] = s.Value
	}
	return answer, nil
}

// findSecret returns the secret with this ARN or name, in the caller's account and region.
func (a *AWS) findSecret(c caller, id string) (Secret, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.secrets {
		parts := strings.Split(s.ARN, ":")
		if parts[3] == c.region && parts[4] == c.account && (s.ARN == id || nameOf(s) == id) {
			return s, true
		}
	}
	return Secret{}, false
}

// nameOf returns the name in a secret's ARN, without the random suffix.
func nameOf(s Secret) string {
	parts := strings.Split(s.ARN, ":")
	name := parts[len(parts)-1]
	return name[:max(0, strings.LastIndexByte(name, '-'))]
}
