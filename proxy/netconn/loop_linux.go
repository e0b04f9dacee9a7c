package netconn

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loop relays sessions in one goroutine. It waits for the events of all their sockets in
// one system call (epoll(7)), handles many events each time, and reads only what has
// arrived. A goroutine for each direction would sleep and wake up for each message.
//
// Go's poller does not have the sockets of a loop: it would wake up for their events, too.
// To leave that poller, the loop duplicates the descriptor and closes the net.Conn. At
// the end of the relay, net.FileConn returns another net.Conn.
//
// watch_linux.go relays one session, and balance_linux.go distributes the sessions.
type loop struct {
	epoll int

	mu      sync.Mutex        // guards sockets
	sockets map[int32]*Socket // by descriptor

	// For sleep.
	alarm      syscall.RawConn              // by newAlarm
	awaitAlarm func(fd uintptr) (done bool) // onAlarm, allocated once
	armed      bool                         // the alarm is set
	announced  [1]unix.EpollEvent           // by the alarm

	// For balance. All but load belongs to the loop's goroutine.
	load    atomic.Pointer[loopLoad]
	handled int           // events since the last look at the clock
	asleep  time.Duration // since weighed
	weighed time.Time     // when load was set last
	cpuTime time.Duration // of the process, then
	target  *loop         // sessions with events move there; nil: they stay
	half    bool          // every second one only
	skipped bool          // the last one stayed
	round   uint64        // counts the choices of target
}

// add begins to wait for the events of w. It reports false if that is not possible. The
// loop handles no event before both sockets are added: the first event may end the relay.
func (l *loop) add(w *watch) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	for i, s := range w.sockets {
		l.sockets[int32(s.loop.fd)] = s
		s.loop.loop, s.loop.events = l, w.events(i)
		err = errors.Join(err, s.loop.epollCtl(unix.EPOLL_CTL_ADD))
	}
	if err != nil {
		l.removeLocked(w)
	}
	return err == nil
}

// remove ends waiting for the events of w. Only the loop's goroutine may call it.
func (l *loop) remove(w *watch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(w)
}

func (l *loop) removeLocked(w *watch) {
	for _, s := range w.sockets {
		delete(l.sockets, int32(s.loop.fd))
		_ = s.loop.epollCtl(unix.EPOLL_CTL_DEL)
	}
}

const (
	// maxEvents is the number of events that a loop takes from the system at once.
	maxEvents = 64
	// yieldInterval is the number of times after which a loop that does not sleep yields.
	yieldInterval = 64
)

// run handles events, and sleeps while there are none. It never returns.
func (l *loop) run() {
	var events [maxEvents]unix.EpollEvent
	for awake := 0; ; awake++ {
		n := epollWait(l.epoll, events[:])
		switch {
		case n == 0:
			l.sleep()
			awake = 0
		case awake%yieldInterval == 0:
			runtime.Gosched() // to other goroutines, such as those of logins
		}
		for i := range n {
			l.handle(events[i].Fd, events[i].Events)
		}
		l.balance(n)
	}
}

// sleep waits for events in Go's poller, like any other goroutine. In epoll_wait, the loop
// would keep a processor from the other goroutines until Go's monitor takes it away.
//
// Go's poller does not have the loop's epoll: it would wake up for each event, even while
// the loop is awake. It has the alarm, an epoll that has the loop's. Once set, the alarm
// announces one event.
func (l *loop) sleep() {
	l.armed = false
	began := time.Now()
	_ = l.alarm.Read(l.awaitAlarm)
	l.asleep += time.Since(began)
}

// onAlarm sets the alarm, and later reports whether the alarm has announced an event. Go's
// poller may also wake up without one. An event must be taken before the alarm is set
// again: otherwise the kernel would not announce the next one (ep_modify in Linux's
// fs/eventpoll.c).
func (l *loop) onAlarm(fd uintptr) (done bool) {
	if l.armed {
		return epollWait(int(fd), l.announced[:]) > 0
	}
	l.armed = true
	_ = unix.EpollCtl(int(fd), unix.EPOLL_CTL_MOD, l.epoll, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT})
	return false
}

// epollWait returns the events that have occurred. It does not wait.
func epollWait(epoll int, events []unix.EpollEvent) int {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0) //nolint:gosec // the memory of events, during the call
	if errno != 0 {
		return 0
	}
	return int(n)
}

// handle acts on events of a socket, unless its relay has ended or has moved since they
// occurred. Another socket may have the same descriptor by now. A wrong event does it no harm.
func (l *loop) handle(fd int32, events uint32) {
	l.mu.Lock()
	s := l.sockets[fd]
	l.mu.Unlock()
	if s == nil {
		return
	}
	w := s.loop.watch
	if !w.handle(s.loop.index, events) {
		l.remove(w)
		go w.end()
		return
	}
	l.move(w)
}

// loops holds the loops in use, at most one for each processor.
var loops struct {
	sync.Mutex
	all []*loop
}

// firstLoop returns the loop of a new session.
func firstLoop() (*loop, error) {
	loops.Lock()
	defer loops.Unlock()
	if len(loops.all) > 0 {
		return loops.all[0], nil
	}
	return newLoop()
}

// newLoop starts a loop. loops is locked.
func newLoop() (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	alarm, err := newAlarm(epoll)
	if err != nil {
		_ = unix.Close(epoll)
		return nil, err
	}
	l := &loop{epoll: epoll, alarm: alarm, sockets: make(map[int32]*Socket), weighed: time.Now(), cpuTime: processTime()}
	l.awaitAlarm = l.onAlarm
	loops.all = append(loops.all, l)
	go l.run()
	return l, nil
}

// newAlarm returns an epoll that has another epoll. Go's poller has the former.
func newAlarm(epoll int) (syscall.RawConn, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(unix.SetNonblock(fd, true), unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, epoll, &unix.EpollEvent{})); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "event loop").SyscallConn()
}
