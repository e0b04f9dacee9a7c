// Command iamproxy lets PostgreSQL clients log in to Amazon RDS and Aurora with IAM tokens
// instead of passwords.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// exitNow ends a process that does not shut down in time. Tests replace it.
var exitNow = func() { os.Exit(1) }
