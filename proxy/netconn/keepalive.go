package netconn

import (
	"net"
	"time"
)

// KeepAlive detects a server that has vanished from an idle connection: after 20 s on
// Linux, where the user timeout applies, and after 25 s elsewhere.
var KeepAlive = net.KeepAliveConfig{
	Enable:   true,
	Idle:     10 * time.Second,
	Interval: 5 * time.Second,
	Count:    3,
}
