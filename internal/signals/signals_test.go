package signals

import (
	"context"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
)

// The second signal ends the process. An interrupt is the second if the shutdown was requested
// in another way.
func TestHandle(t *testing.T) {
	for name, test := range map[string]struct {
		draining bool
		signals  []os.Signal
		want     string
	}{
		"SIGTERM":                         {false, []os.Signal{syscall.SIGTERM}, "shutdown "},
		"interrupt":                       {false, []os.Signal{os.Interrupt}, "shutdown "},
		"twice":                           {false, []os.Signal{syscall.SIGTERM, syscall.SIGTERM}, "shutdown end "},
		"interrupt while draining":        {true, []os.Signal{os.Interrupt}, "end "},
		"SIGTERM while draining":          {true, []os.Signal{syscall.SIGTERM}, "shutdown "},
		"SIGTERM and more while draining": {true, []os.Signal{syscall.SIGTERM, syscall.SIGTERM}, "shutdown end "},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				draining, shutdown := context.WithCancel(t.Context())
				defer shutdown()
				if test.draining {
					shutdown()
				}
				received := make(chan os.Signal)
				got := ""
				go Handle(t.Context(), draining, received, func() { got += "shutdown "; shutdown() }, func() { got += "end " })
				for _, s := range test.signals {
					received <- s
				}
				synctest.Wait()
				if got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		})
	}
}
