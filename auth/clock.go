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
	// tolerated is how far the clock may be off without a word. A token that is
	// five minutes ahead, or fifteen behind, is refused.
	maxSkew = time.Minute
	// remindEvery spaces the warnings of a clock that stays off.
	warnInterval = time.Hour
)

// services are those whose clocks are AWS's. Metadata and container endpoints
// are on this very host, and go by its clock.
var awsServices = []string{"STS", "SSO", "SSO OIDC", "Signin", "RDS", "IAM", "Secrets Manager"}

// clock is what AWS's answers say of this machine's.
type clock struct {
	mu     sync.Mutex
	seen   bool
	ahead  time.Duration // of AWS's
	warned time.Time
}

// ClockAhead is how far this machine's clock is ahead of AWS's, to the second,
// and whether any answer of AWS's has told.
func (i *Identity) ClockAhead() (ahead time.Duration, known bool) {
	i.clock.mu.Lock()
	defer i.clock.mu.Unlock()
	return i.clock.ahead, i.clock.seen
}

// ClockIsOff reports whether this machine's clock is further off than a token stands for
// long: one that runs away is on the way there.
func (i *Identity) ClockIsOff() bool {
	ahead, known := i.ClockAhead()
	return known && ahead.Abs() > maxSkew
}

// watchClock looks at the date of all answers, refusals included.
func (i *Identity) watchClock(stack *middleware.Stack) error {
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("WatchClock", func(
		ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler,
	) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		if answer, ok := out.RawResponse.(*smithyhttp.Response); ok && slices.Contains(awsServices, awsmiddleware.GetServiceID(ctx)) {
			i.compareClock(answer.Header)
		}
		return out, metadata, err
	}), middleware.Before)
}

func (i *Identity) compareClock(header http.Header) {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil || header.Get("Age") != "" { // from a cache
		return
	}
	now := wallClock()
	ahead := now.Sub(date).Round(time.Second)

	c := &i.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen, c.ahead = true, ahead
	switch {
	case ahead.Abs() <= maxSkew:
		c.warned = time.Time{}
	case c.warned.IsZero() || now.Sub(c.warned).Abs() >= warnInterval:
		c.warned = now
		i.log().Warn("this machine's clock is off, and databases refuse tokens from the future and old ones; set it by NTP",
			zap.Duration("ahead_of_aws", ahead))
	}
}
