package portforward

import (
	"os"
	"slices"
	"strings"
)

// Environment returns the environment for programs: that of this process without the password
// of libpq and without iamproxy's own variables.
func Environment() []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "PGPASSWORD=") || strings.HasPrefix(variable, "IAMPROXY_")
	})
}
