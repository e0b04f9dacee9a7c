package auth

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"go.uber.org/zap"
)

const (
	// maxSkew is the clock skew that is not reported. A token that is signed five
	// minutes in the future, or fifteen in the past, is refused.
	maxSkew = time.Minute
	// warnInterval limits the warnings about a clock that stays off.
	warnInterval = time.Hour
)

// awsServices lists the services whose responses carry AWS's time. The endpoints
// for instance metadata and container credentials are on this host and carry the
// host's own.
var awsServices = []string{"STS", "SSO", "SSO OIDC", "Signin", "RDS", "IAM", "Secrets Manager"}

// clock holds the skew of this machine's clock.
type clock struct {
	mu       sync.Mutex
	known    bool
	ahead    time.Duration // of AWS's
	warnedAt time.Time     // zero while the clock is right
}

// ClockAhead returns how far this machine's clock is ahead of AWS's, to the
// second. It is known after the first response from AWS.
func (i *Identity) ClockAhead() (ahead time.Duration, known bool) {
	i.clock.mu.Lock()
	defer i.clock.mu.Unlock()
	return i.clock.ahead, i.clock.known
}

// ClockIsOff reports whether this machine's clock is known to be off by more than
// a minute.
func (i *Identity) ClockIsOff() bool {
	ahead, known := i.ClockAhead()
	return known && ahead.Abs() > maxSkew
}

// watchClock adds the recording of the clock skew to an operation. Each response,
// including error responses, has AWS's time. The SDK compares it, too, but not if
// AWS_DISABLE_CLOCK_SKEW_CORRECTION is set.
func (i *Identity) watchClock(stack *middleware.Stack) error {
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("WatchClock", func(
		ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler,
	) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		received := wallClock()
		response, ok := out.RawResponse.(*smithyhttp.Response)
		if ok && slices.Contains(awsServices, awsmiddleware.GetServiceID(ctx)) {
			if sent, err := http.ParseTime(response.Header.Get("Date")); err == nil {
				i.recordSkew(received.Sub(sent).Round(time.Second))
			}
		}
		return out, metadata, err
	}), middleware.Before)
}

func (i *Identity) recordSkew(ahead time.Duration) {
	now := wallClock()
	c := &i.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known, c.ahead = true, ahead
	switch {
	case ahead.Abs() <= maxSkew:
		c.warnedAt = time.Time{}
	case c.warnedAt.IsZero() || now.Sub(c.warnedAt).Abs() >= warnInterval:
		c.warnedAt = now
		i.log().Warn("this machine's clock is off; databases refuse tokens from the future and expired ones; synchronize it with NTP",
			zap.Float64("ahead_of_aws_s", ahead.Seconds()))
	}
}
