package netconn

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// balanceInterval is the time over which the load of a loop is measured.
	balanceInterval = 100 * time.Millisecond
	// balanceEvents is the number of events after which a loop looks at the clock.
	balanceEvents = 512
)

// Shares of the time in which a loop is awake.
const (
	fullLoad   = 0.9 // from here on a loop gives away sessions
	roomLoad   = 0.5 // up to here a loop takes half of the sessions of a full one
	mergedLoad = 0.6 // up to here two loops become one
)

// loopLoad is the share of the time up to at in which a loop was awake.
type loopLoad struct {
	share float64
	at    time.Time
}

// share returns the load. It is 0 for a loop that has handled few events lately.
func (l *loop) share(now time.Time) float64 {
	load := l.load.Load()
	if load == nil || now.Sub(load.at) > 10*balanceInterval {
		return 0
	}
	return load.share
}

// balance decides whether sessions move to another loop. The first loop has all sessions
// as long as one thread is enough: the fewer threads there are, the more events each
// handles before it sleeps.
func (l *loop) balance(events int) {
	if l.handled += events; l.handled < balanceEvents {
		return
	}
	l.handled = 0
	now := time.Now()
	elapsed := now.Sub(l.weighed)
	if elapsed < balanceInterval {
		return
	}
	l.load.Store(&loopLoad{share: 1 - float64(l.asleep)/float64(elapsed), at: now})
	cpuTime := processTime()
	l.target, l.half = l.chooseTarget(now, float64(cpuTime-l.cpuTime)/float64(elapsed))
	l.asleep, l.weighed, l.cpuTime = 0, now, cpuTime
	l.round++
}

// processTime returns the CPU time of the process.
func processTime() time.Duration {
	var used unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &used)
	return time.Duration(used.Nano())
}

// chooseTarget returns the loop that sessions of l move to: all to an earlier loop that
// has room for them, or half of them to another one if l is full. processors is the number
// of processors that the process has had. If it is less than the loops would have used,
// others have the processors, and more threads do not help.
func (l *loop) chooseTarget(now time.Time, processors float64) (target *loop, half bool) {
	loops.Lock()
	defer loops.Unlock()
	share, wanted := l.share(now), 0.0
	earlier := true
	for _, other := range loops.all {
		earlier = earlier && other != l
		if earlier && share+other.share(now) < mergedLoad {
			return other, false
		}
		wanted += other.share(now)
	}
	if share < fullLoad || processors < fullLoad*wanted {
		return nil, false
	}
	for _, other := range loops.all {
		if other.share(now) < roomLoad {
			return other, true
		}
	}
	if len(loops.all) >= runtime.GOMAXPROCS(0) {
		return nil, false
	}
	other, err := newLoop()
	return other, err == nil
}

// move moves a session to the target, if there is one.
func (l *loop) move(w *watch) {
	if l.target == nil || w.round == l.round {
		return
	}
	w.round = l.round
	if l.skipped = !l.skipped; l.half && l.skipped {
		return
	}
	l.remove(w)
	w.round = 0
	if !l.target.add(w) {
		go w.end()
	}
}
