package netconn

import (
	"cmp"
	"errors"
	"net"
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

// Watched is one of two connections that a loop relays to each other.
type Watched struct {
	Conn *Conn
	// Readable copies what can be read without waiting to the other connection, until that
	// is congested. It reports false when the direction has ended.
	Readable func() (more bool)
}

// Watch starts to relay between two connections on an event loop, until a direction ends or
// a connection is closed. Then package net has the sockets again, and Watch calls done in a
// new goroutine. It reports false, and does not call done, if no loop can have the sockets
// or a direction has ended already.
//
// Readable must not wait. During the relay, other goroutines may close the connections, but
// not read or write.
func Watch(a, b Watched, done func()) bool {
	first, err := firstLoop()
	if err != nil {
		return false
	}
	w := &watch{sockets: [2]*Socket{a.Conn.socket, b.Conn.socket}, done: done}
	if !w.detach() {
		return false
	}
	for i, side := range []Watched{a, b} {
		s := w.sockets[i]
		s.loop.watch, s.loop.index, s.loop.readable = w, i, side.Readable
		s.polling = true
	}
	// What was read ahead is copied now: no event will announce it.
	if !w.resume(0) || !w.resume(1) || !first.add(w) {
		w.reattach()
		return false
	}
	return true
}

// watch holds both sockets of a session. Only the loop that has them uses it.
type watch struct {
	sockets [2]*Socket
	paused  [2]bool // this socket is not read, because the other one is congested
	done    func()

	round uint64 // of the loop that has considered the session for a move
}

// loopSocket is a Socket's part in a loop. Its zero value is a socket that no loop has.
type loopSocket struct {
	watch    *watch
	index    int // of the socket in watch
	readable func() bool

	// Only the loop that has the socket uses these.
	loop   *loop
	events uint32 // that it waits for

	// The Socket's mu guards these.
	fd     int
	unsent []byte // written, while the socket had no room
	closed bool   // by Close
}

func (s *loopSocket) active() bool { return s.fd != 0 }

// write sends what the socket has room for, and keeps the rest.
func (s *loopSocket) write(b []byte) (int, error) {
	if s.closed {
		return 0, net.ErrClosed
	}
	rest := b
	if len(s.unsent) == 0 {
		var errno syscall.Errno
		if rest, errno = send(uintptr(s.fd), b); errno != 0 {
			return len(b) - len(rest), os.NewSyscallError("write", errno)
		}
	}
	s.unsent = append(s.unsent, rest...)
	return len(b), nil
}

// close ends the connection. The descriptor stays open until the loop has noticed.
func (s *loopSocket) close() error {
	if s.closed {
		return net.ErrClosed
	}
	s.closed = true
	return os.NewSyscallError("shutdown", unix.Shutdown(s.fd, unix.SHUT_RDWR))
}

// Congested reports whether a loop has to send first what was written to the socket.
func (s *Socket) Congested() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.loop.unsent) > 0
}

// detach takes both sockets out of the poller of package net. If it reports false, both stay
// as they are.
func (w *watch) detach() bool {
	var fds [2]int
	for i, s := range w.sockets {
		s.mu.Lock()
		defer s.mu.Unlock()
		var err error
		if fds[i], err = s.duplicate(); err != nil {
			if i == 1 {
				_ = unix.Close(fds[0])
			}
			return false
		}
	}
	for i, s := range w.sockets {
		s.conn.Close()
		s.loop = loopSocket{fd: fds[i]}
	}
	return true
}

// duplicate returns another descriptor of the socket. It is not 0, which means none.
func (s *Socket) duplicate() (fd int, err error) {
	if !s.raw.enabled() {
		return 0, errors.ErrUnsupported
	}
	failed := s.raw.conn.Control(func(open uintptr) { fd, err = unix.FcntlInt(open, unix.F_DUPFD_CLOEXEC, 1) })
	return fd, cmp.Or(failed, err)
}

// reattach returns the socket to package net. If there is no descriptor left for that, the
// connection is closed.
func (s *Socket) reattach() {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.loop
	s.loop = loopSocket{}
	s.polling = false
	if was.closed {
		_ = unix.Close(was.fd)
		return
	}
	file := os.NewFile(uintptr(was.fd), "socket")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(KeepAlive) // FileConn has set Go's default
	}
	s.conn = conn
	s.raw.reopen(conn, was.unsent)
}

// receive reads once. It reports false if nothing has arrived.
func (s *Socket) receive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loop.closed {
		s.raw.readErr = net.ErrClosed
	}
	return s.raw.filled() || s.raw.readOnce(uintptr(s.loop.fd))
}

// sendUnsent sends what the socket has room for. It reports whether that is all.
func (s *Socket) sendUnsent() (all bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest, errno := send(uintptr(s.loop.fd), s.loop.unsent)
	if s.loop.unsent = rest; len(rest) == 0 {
		s.loop.unsent = nil
	}
	if errno != 0 {
		return false, errno
	}
	return len(rest) == 0, nil
}

// setEvents changes the events that the loop waits for.
func (s *loopSocket) setEvents(events uint32) {
	if s.events != events {
		s.events = events
		_ = s.epollCtl(unix.EPOLL_CTL_MOD)
	}
}

// epollCtl adds, modifies or removes the socket in the loop's epoll. Only adding can fail,
// such as at the system's limit (/proc/sys/fs/epoll/max_user_watches).
func (s *loopSocket) epollCtl(operation int) error {
	return unix.EpollCtl(s.loop.epoll, operation, s.fd, &unix.EpollEvent{Events: s.events, Fd: int32(s.fd)})
}

// resume copies from a socket what can be copied without waiting. It reports false if the
// direction has ended.
func (w *watch) resume(i int) bool {
	if !w.sockets[i].loop.readable() {
		return false
	}
	w.paused[i] = w.sockets[1-i].Congested()
	return true
}

// handle acts on events of a socket. It reports false if the relay has ended.
func (w *watch) handle(i int, events uint32) bool {
	s, paused := w.sockets[i], w.paused
	if events&unix.EPOLLOUT != 0 {
		all, err := s.sendUnsent()
		if err != nil || all && !w.resume(1-i) {
			return false
		}
	}
	if events&^unix.EPOLLOUT != 0 {
		if w.paused[i] { // the events are EPOLLHUP or EPOLLERR
			return false
		}
		if s.receive() && !w.resume(i) {
			return false
		}
	}
	if w.paused != paused {
		for i, s := range w.sockets {
			s.loop.setEvents(w.events(i))
		}
	}
	return true
}

// events returns the events to wait for: what can be read, and room for what is unsent.
func (w *watch) events(i int) (events uint32) {
	if !w.paused[i] {
		events |= unix.EPOLLIN
	}
	if w.paused[1-i] {
		events |= unix.EPOLLOUT
	}
	return events
}

func (w *watch) reattach() {
	for _, s := range w.sockets {
		s.reattach()
	}
}

// end returns the sockets to package net, and calls done. No loop may have w any more.
func (w *watch) end() {
	w.reattach()
	w.done()
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
