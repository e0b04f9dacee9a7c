package auth

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"go.uber.org/zap"
)

// shortened requests a session of roleDuration if STS rejects the values of a request
// for a longer one, which a profile's duration_seconds may contain: the maximum of a
// role that was assumed by a role is one hour. iamproxy renews sessions, so that their
// duration does not matter to clients.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html#iam-term-role-chaining
type shortened struct {
	stscreds.AssumeRoleAPIClient
	log *zap.Logger
}

// AssumeRole implements the client of the SDK's provider.
func (s shortened) AssumeRole(ctx context.Context, in *sts.AssumeRoleInput, options ...func(*sts.Options)) (*sts.AssumeRoleOutput, error) {
	out, err := s.AssumeRoleAPIClient.AssumeRole(ctx, in, options...)
	requested := time.Duration(aws.ToInt32(in.DurationSeconds)) * time.Second
	if err == nil || requested <= roleDuration || errorCode(err) != "ValidationError" {
		return out, err
	}
	s.log.Debug("STS rejects the request for a long session of the role; requesting one hour", zap.Float64("duration_s", requested.Seconds()))
	shorter := *in
	shorter.DurationSeconds = aws.Int32(int32(roleDuration / time.Second))
	return s.AssumeRoleAPIClient.AssumeRole(ctx, &shorter, options...)
}
