//go:build unix && !linux

package standin

// memoryDir is a directory in memory: only Linux has one for everybody.
func memoryDir() string { return "" }
