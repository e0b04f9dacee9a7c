package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version and commit are set by the build with -ldflags "-X main.version=... -X main.commit=...".
var version, commit string

type versionCommand struct{}

// Run prints one line, such as "iamproxy v1.2.3 (commit 0123abc, go1.26.8)".
func (versionCommand) Run(std streams) error {
	version, commit := buildInfo()
	_, err := fmt.Fprintf(std.out, "iamproxy %s (commit %s, %s)\n", version, commit, runtime.Version())
	return err
}

// buildInfo returns the version and commit of the binary. Without those of the build, it uses
// what `go install` and `go build` store in the binary.
func buildInfo() (v, c string) {
	v, c = version, commit
	if info, ok := debug.ReadBuildInfo(); ok {
		if v == "" && info.Main.Version != "(devel)" {
			v = info.Main.Version
		}
		for _, setting := range info.Settings {
			if c == "" && setting.Key == "vcs.revision" {
				c = setting.Value
			}
		}
	}
	return cmp.Or(v, "unknown"), cmp.Or(c, "unknown")
}
