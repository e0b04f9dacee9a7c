// Command iamproxy lets PostgreSQL clients log in to Amazon RDS and Aurora with IAM tokens
// instead of passwords.
package main

import (
	"context"
	"os"

	"github.com/iamproxy/iamproxy/auth"
)

func main() {
	code := run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)
	auth.EndProcesses()
	os.Exit(code)
}

// exitNow ends a process that does not shut down in time.
func exitNow() {
	auth.EndProcesses()
	os.Exit(1)
}
