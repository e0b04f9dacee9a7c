// Command iamproxy lets PostgreSQL clients log in to Amazon RDS and Aurora with IAM tokens
// instead of passwords.
package main

import (
	"context"
	"os"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/lambda"
)

func main() {
	var code int
	executable, _ := os.Executable() // empty if it is unknown
	if extension := lambda.Detect(os.Args, executable, os.Getenv); extension != nil {
		code = runExtension(context.Background(), extension, os.Stdout, os.Stderr)
	} else {
		code = run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)
	}
	auth.EndProcesses()
	os.Exit(code)
}

// exitNow ends a process that does not shut down in time.
func exitNow() {
	auth.EndProcesses()
	os.Exit(1)
}
