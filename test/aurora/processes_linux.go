package aurora

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// processes lists all processes, from /proc/PID/stat (proc(5)).
func processes() ([]status, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var all []status
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "stat"))
		if err != nil {
			continue // it has ended
		}
		// "pid (name) state ppid ...": a name may contain any characters.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 2 {
			continue
		}
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			continue
		}
		all = append(all, status{pid, parent, fields[0][0]})
	}
	return all, nil
}
