package ssm

import (
	"cmp"
	"context"
	"fmt"
)

// Describe waits until the session is open, and describes it in one line.
func (f *Forward) Describe(ctx context.Context) (string, error) {
	status, err := f.Open(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("open on %s, SSM Agent %s", cmp.Or(status.Target, f.Target.String()), cmp.Or(status.Agent, "of unknown version")), nil
}
