package rdsapi

import (
	"errors"
	"strings"

	"github.com/aws/smithy-go"
)

// isNotFound reports whether the response has the error code of a service for a resource that
// does not exist.
func isNotFound(err error) bool {
	var answer smithy.APIError
	return errors.As(err, &answer) &&
		(strings.Contains(answer.ErrorCode(), "NotFound") || strings.HasPrefix(answer.ErrorCode(), "NoSuchEntity"))
}
