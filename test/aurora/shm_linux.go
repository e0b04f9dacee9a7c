package aurora

import "syscall"

// memoryDir is a directory in memory, if there is one with plenty of room. A
// database cluster is a thousand files: on disk, making and removing them is
// most of what a Cluster costs. Containers often have but 64 MB there.
func memoryDir() string {
	const shm, room = "/dev/shm", 2 << 30
	var fs syscall.Statfs_t
	if err := syscall.Statfs(shm, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < room {
		return ""
	}
	return shm
}
