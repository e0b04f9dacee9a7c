//go:build unix && !linux

package aurora

// memoryDir is a directory in memory: only Linux has one for everybody.
func memoryDir() string { return "" }
