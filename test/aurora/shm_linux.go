package aurora

import "syscall"

// memoryDir returns a directory in memory, if there is one with enough room. A database
// cluster has a thousand files: on disk, making and removing them takes most of the time of
// a Cluster. Containers often have only 64 MB there.
func memoryDir() string {
	const shm, room = "/dev/shm", 2 << 30
	var fs syscall.Statfs_t
	if err := syscall.Statfs(shm, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < room {
		return ""
	}
	return shm
}
