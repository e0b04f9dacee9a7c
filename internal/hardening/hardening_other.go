//go:build !linux

// Package hardening protects the memory of the process from other processes.
package hardening

// DisableDumps does nothing: it needs Linux.
func DisableDumps() {}
