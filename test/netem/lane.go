//go:build linux

package netem

import (
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// queueLength is the maximum of packets in transit. More are dropped, as by a router.
const queueLength = 4096

// lane is one direction.
type lane struct {
	from, to *os.File
	queue    chan packet

	lost atomic.Int64 // packets

	mu         sync.Mutex
	conditions Conditions
	cut        bool
	random     *rand.Rand
}

type packet struct {
	bytes []byte
	due   time.Time
}

func newLane(from, to *os.File, seed uint64) *lane {
	return &lane{
		from: from, to: to, queue: make(chan packet, queueLength),
		random: rand.New(rand.NewPCG(seed, 0)),
	}
}

func (l *lane) set(w Conditions, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conditions, l.cut = w, cut
}

// fate decides what happens to the next packet.
type fate struct {
	lost, reset bool
	delay       time.Duration
}

func (l *lane) fate() fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	chance := l.random.Float64()
	w := l.conditions
	return fate{lost: l.cut || chance < w.Loss, reset: chance < w.Reset, delay: w.Delay}
}

// read reads packets of one host, until its device is closed.
func (l *lane) read() {
	defer close(l.queue)
	buffer := make([]byte, mtu)
	for {
		n, err := l.from.Read(buffer)
		if err != nil {
			return
		}
		if buffer[0]>>4 != 4 {
			continue // the kernel's own IPv6 packets must not consume random numbers
		}
		f := l.fate()
		bytes := append([]byte(nil), buffer[:n]...)
		if f.lost {
			l.lost.Add(1)
			continue
		}
		if f.reset {
			if back, on, ok := resets(bytes); ok {
				_, _ = l.from.Write(back)
				bytes = on
			}
		}
		select {
		case l.queue <- packet{bytes, time.Now().Add(f.delay)}:
		default:
			l.lost.Add(1)
		}
	}
}

// deliver writes packets to the other host, each after its delay.
func (l *lane) deliver() {
	for p := range l.queue {
		if wait := time.Until(p.due); wait > 0 {
			time.Sleep(wait)
		}
		_, _ = l.to.Write(p.bytes) // fails if the device is closed
	}
}
