package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// Set by the build with -ldflags "-X main.version=... -X main.commit=...".
var version, commit string

type versionCommand struct{}

// Run prints one line, as in "iamproxy v1.2.3 (commit 0123abc, go1.26.8)".
func (versionCommand) Run(std streams) error {
	_, err := fmt.Fprintln(std.out, versionLine())
	return err
}

func versionLine() string {
	v, c := builtFrom()
	return fmt.Sprintf("iamproxy %s (commit %s, %s)", v, c, runtime.Version())
}

// builtFrom falls back on what `go install` and `go build` leave in the binary by
// themselves.
func builtFrom() (v, c string) {
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
