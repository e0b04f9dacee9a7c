//go:build unix && !linux

package aurora

// memoryDir returns "": only Linux has a directory in memory for all users.
func memoryDir() string { return "" }
