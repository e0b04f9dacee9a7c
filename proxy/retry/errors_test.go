package retry

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/iamproxy/iamproxy/proxy/pgwire"
)

func TestMoreSpecificError(t *testing.T) {
	var (
		refused     = serverError("28000", pgwire.TokenSent)
		startingUp  = serverError("57P03", pgwire.Authenticated)
		noDatabase  = serverError("3D000", pgwire.Authenticated)
		notWritable = pgwire.NewError(pgwire.NotWritable, nil, "", "")
		dialRefused = pgwire.NewError(pgwire.DialRefused, nil, "")
		queueFull   = pgwire.NewError(pgwire.QueueFull, errQueueFull, timeout)
	)
	for _, test := range []struct {
		name                 string
		earlier, later, want error
	}{
		{"only one", nil, io.EOF, io.EOF},
		{"only a timeout", nil, context.DeadlineExceeded, context.DeadlineExceeded},
		{"later one", io.EOF, dialRefused, dialRefused},
		{"broken connection later", dialRefused, io.EOF, io.EOF},
		{"timeout of the login", dialRefused, context.DeadlineExceeded, dialRefused},
		{"timeout of the connection", io.EOF, os.ErrDeadlineExceeded, io.EOF},
		{"full queue", io.EOF, queueFull, io.EOF},
		{"error of the server, then a broken connection", startingUp, io.EOF, startingUp},
		{"error of the server, then no connection", refused, dialRefused, refused},
		{"error of the server, then another", startingUp, refused, refused},
		{"broken connection, then an error of the server", io.EOF, startingUp, startingUp},
		{"no writable instance, then no connection", notWritable, dialRefused, notWritable},
		{"no writable instance, then a timeout", notWritable, context.DeadlineExceeded, notWritable},
		{"no writable instance, then a server that starts", notWritable, startingUp, notWritable},
		{"no writable instance, then another error of the server", notWritable, noDatabase, noDatabase},
		{"error of the server, then no writable instance", startingUp, notWritable, startingUp},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := MoreSpecificError(test.earlier, test.later); !errors.Is(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
