//go:build !linux

package main

// closeMemory needs Linux.
func closeMemory() {}
