// Command plugin is AWS's Session Manager plugin, for port forwards only. Its module is
// separate, so that iamproxy does not depend on it.
package main

import (
	"os"

	"github.com/aws/session-manager-plugin/src/sessionmanagerplugin/session"
	_ "github.com/aws/session-manager-plugin/src/sessionmanagerplugin/session/portsession"
)

func main() { session.ValidateInputAndStartSession(os.Args, os.Stdout) }
