// Command iamproxy lets PostgreSQL clients that know no password log in to
// Amazon RDS and Aurora with IAM tokens.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// giveUp is for a process that does not end by itself.
var giveUp = func() { os.Exit(1) }
