package portforward

import (
	"os"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"
)

// StartAll starts the forwards that are not nil, and returns a function that stops them.
func StartAll(log *zap.Logger, forwards ...*Forward) (stop func()) {
	forwards = slices.DeleteFunc(slices.Clone(forwards), func(f *Forward) bool { return f == nil })
	for _, f := range forwards {
		f.Log = log
		f.Start()
	}
	return func() {
		var stopping sync.WaitGroup
		for _, f := range forwards {
			stopping.Go(f.Stop)
		}
		stopping.Wait()
	}
}

// Environment returns the environment for programs: that of this process without the password
// of libpq and without iamproxy's own variables.
func Environment() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "PGPASSWORD=") || strings.HasPrefix(variable, "IAMPROXY_")
	})
}
