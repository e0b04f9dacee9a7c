package ssm

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/smithy-go"
	"github.com/xtaci/smux"
	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/internal/portforward/ssm/channel"
	"github.com/iamproxy/iamproxy/internal/portforward/ssm/message"
)

const (
	// clientVersion is sent to the agent and the gateway, which depend on the version of
	// AWS's client. From 1.1.70 on, the agent forwards several connections in one session,
	// and after 1.2.331.0 it sends no keep-alive: aws/amazon-ssm-agent,
	// agent/session/plugins/port/port.go.
	clientVersion = "1.2.764.0"
	// The versions of the agent after which it does that: aws/session-manager-plugin,
	// src/config/config.go.
	muxAfter         = "3.0.196.0"
	noKeepAliveAfter = "3.1.1511.0"

	// openTimeout bounds the opening of a session.
	openTimeout = time.Minute
	// failureKept is how long Dial returns the error of a session that was not opened.
	failureKept = time.Second
	// stopTimeout bounds the end of a session.
	stopTimeout = 1800 * time.Millisecond
	// drainTimeout bounds how long connections receive what arrived before the end.
	drainTimeout = 300 * time.Millisecond
	// receiveBuffer limits the data that all clients together have not read. Then none
	// receives any more: streams of smux version 1 have no window. Each client has a queue
	// beside it.
	receiveBuffer = 16 << 20
	// stuckAfter is how long a client that does not read may hold up others because that
	// buffer is full.
	stuckAfter = 30 * time.Second
)

// session is one session of Session Manager, from its opening to its end.
type session struct {
	*Forward
	opened chan struct{} // closed when connections can be opened
	failed chan struct{} // closed when the session was not opened or has ended, with err
	done   chan struct{} // closed when nothing of it is left

	// Set before opened is closed, with the Forward's mutex.
	info     Session
	channel  *channel.Channel
	mux      *smux.Session
	openedAt time.Time

	// Set before failed is closed, with the Forward's mutex.
	err      error
	failedAt time.Time
	wasOpen  bool

	conns map[*conn]struct{} // that are not closed, or have bytes to send; with the Forward's mutex

	// refused counts connections that the agent could not connect and whose end is to come.
	refused atomic.Int64

	tasks sync.WaitGroup // of connections, and of run

	attempts int // to resume, since the last one that succeeded

	upMu       sync.Mutex
	up         chan struct{} // closed while there is a WebSocket
	attemptErr error         // of the last attempt to resume
}

func newSession(f *Forward) *session {
	s := &session{Forward: f, opened: make(chan struct{}), failed: make(chan struct{}), done: make(chan struct{}), up: make(chan struct{}), conns: map[*conn]struct{}{}}
	close(s.up)
	return s
}

// stoppedSession returns a session that has failed with ErrStopped.
func stoppedSession() *session {
	s := &session{err: ErrStopped, failed: make(chan struct{})}
	close(s.failed)
	return s
}

// connected returns a channel that is closed when there is a WebSocket.
func (s *session) connected() chan struct{} {
	s.upMu.Lock()
	defer s.upMu.Unlock()
	return s.up
}

// run opens the session and waits for its end.
func (s *session) run() {
	defer close(s.done)
	err := s.open()
	if err == nil {
		s.log.Info("Session Manager session opened", zap.String("ssm_session", s.info.ID), zap.String("target", s.info.Target), zap.String("agent", s.channel.AgentVersion()),
			logging.MessageForConsole("Session Manager session opened on "+s.info.Target))
		broken := make(chan struct{})
		s.task(func() {
			s.mux.AcceptStream() //nolint:errcheck // the agent opens no streams, and this ends with the multiplexer
			close(broken)
		})
		select {
		case <-s.channel.Done():
			err = s.channel.Err()
		case <-broken:
			err = cmp.Or(s.channel.Err(), errMux)
		case <-s.ctx.Done():
			err = ErrStopped
		}
	}
	s.end(err)
}

var (
	errMux     = errors.New("SSM Agent violated the protocol for several connections")
	errStalled = errors.New("SSM Agent does not acknowledge data")
)

// open opens the session.
func (s *session) open() error {
	ctx, cancel := context.WithTimeout(s.ctx, openTimeout)
	defer cancel()
	in := StartInput{Target: s.Target, Document: Document(s.Host), Parameters: map[string][]string{"portNumber": {s.Port}}}
	if in.Document == documentToRemoteHost {
		in.Parameters["host"] = []string{s.Host}
	}
	info, err := s.API.StartSession(ctx, in)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.info, s.target = info, info.Target
	s.mu.Unlock()
	c, err := channel.Open(ctx, channel.Config{
		Connect: s.connect, ClientVersion: clientVersion, Flag: s.flag, Lost: s.lost, Resumed: s.resumed,
	})
	if err != nil {
		return err
	}
	mux, err := s.newMux(c)
	if err != nil {
		c.Close()
		return err
	}
	s.mu.Lock()
	s.channel, s.mux, s.openedAt = c, mux, time.Now()
	s.agent, s.sessions, s.lastErr = c.AgentVersion(), s.sessions+1, nil
	s.mu.Unlock()
	close(s.opened)
	return nil
}

// newMux returns the client of the agent's multiplexer.
func (s *session) newMux(c *channel.Channel) (*smux.Session, error) {
	version := c.AgentVersion()
	if !isAfter(version, muxAfter) {
		return nil, &AgentVersionError{version, s.info.Target}
	}
	config := smux.DefaultConfig()
	config.MaxReceiveBuffer = cmp.Or(s.receiveBuffer, receiveBuffer)
	// Its messages are data to Session Manager, and would defeat the idle timeout.
	config.KeepAliveDisabled = isAfter(version, noKeepAliveAfter)
	config.KeepAliveTimeout = 10 * time.Minute // longer than an outage that the channel survives
	return smux.Client(c, config)
}

// isAfter reports whether a version is later than another. It is false for what is no version.
func isAfter(version, other string) bool {
	parse := func(version string) []int {
		var numbers []int
		for _, word := range strings.Split(version, ".") {
			n, err := strconv.Atoi(word)
			if err != nil {
				return nil
			}
			numbers = append(numbers, n)
		}
		return numbers
	}
	return slices.Compare(parse(version), parse(other)) > 0
}

// end ends what is left of the session.
func (s *session) end(err error) {
	if s.ctx.Err() != nil {
		err = ErrStopped
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var ended *channel.EndedError
	byService := errors.As(err, &ended)
	wasOpen := s.mux != nil
	if wasOpen && !byService {
		within, cancel := context.WithTimeout(ctx, stopTimeout/3)
		s.flush(within)
		cancel()
	}
	var requests sync.WaitGroup
	if s.info.ID != "" && !byService {
		requests.Go(func() {
			if err := s.API.TerminateSession(ctx, s.info.ID); err != nil && ctx.Err() == nil {
				s.log.Warn("Session Manager session could not be terminated", zap.String("ssm_session", s.info.ID), zap.Error(s.explain(err)))
			}
		})
	}
	if wasOpen {
		if !byService {
			within, cancel := context.WithTimeout(ctx, stopTimeout/3)
			s.channel.Terminate(within) //nolint:errcheck // TerminateSession does the same
			cancel()
		}
		s.channel.Close()
	}
	s.mu.Lock()
	s.err, s.failedAt, s.wasOpen = err, time.Now(), wasOpen
	s.since = s.failedAt
	streams := 0
	if wasOpen {
		streams = s.mux.NumStreams()
		stats := s.channel.Stats()
		s.ended.Resumes += stats.Resumes
		s.ended.BytesIn += stats.BytesIn
		s.ended.BytesOut += stats.BytesOut
	}
	if s.ctx.Err() == nil && (!wasOpen || !byService) {
		s.lastErr = s.explain(err)
	}
	s.mu.Unlock()
	close(s.failed)
	s.logEnd(err, wasOpen, byService, streams)
	if wasOpen {
		s.drain()
	}
	s.tasks.Wait()
	requests.Wait()
}

// drain closes the multiplexer after the connections have received what has arrived, unless that
// takes longer than drainTimeout.
func (s *session) drain() {
	ended := make(chan struct{})
	go func() {
		s.tasks.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(drainTimeout):
	}
	s.mux.Close()
	<-ended
}

func (s *session) logEnd(err error, wasOpen, byService bool, streams int) {
	failed := s.explain(err)
	id, reason, hint := logging.OptionalString("ssm_session", s.info.ID), zap.String("reason", string(failed.Reason)), logging.OptionalString("hint", failed.Hint)
	switch {
	case s.ctx.Err() != nil:
		s.log.Info("Session Manager session closed", id)
	case wasOpen && byService:
		s.log.Info("Session Manager session ended", id, zap.Int("connections", streams), zap.Error(failed), logging.MessageForConsole("Session Manager session ended; the next client opens another one"))
	case wasOpen:
		s.log.Warn("Session Manager session failed", id, zap.Int("connections", streams), zap.Error(failed), reason, hint)
	default:
		s.log.Warn("Session Manager session could not be opened", zap.Error(failed), reason, hint)
	}
}

// connect opens a WebSocket for the channel, and keeps the error for the status.
func (s *session) connect(ctx context.Context, resume bool) (channel.Socket, string, error) {
	socket, token, err := s.attempt(ctx, resume)
	if err != nil {
		s.upMu.Lock()
		s.attemptErr = err
		s.upMu.Unlock()
	}
	return socket, token, err
}

// attemptError returns the error of the last attempt to resume, or nil.
func (s *session) attemptError() error {
	s.upMu.Lock()
	defer s.upMu.Unlock()
	return s.attemptErr
}

func (s *session) attempt(ctx context.Context, resume bool) (channel.Socket, string, error) {
	info := s.info
	if resume {
		timeout := stepTimeout
		if s.attempts++; s.attempts%patienceInterval == 0 {
			timeout = patientTimeout
		}
		watched, stop := withStepTimeout(ctx, timeout)
		defer stop()
		ctx = watched
		resumed, err := s.API.ResumeSession(ctx, info.ID)
		var answer smithy.APIError
		switch {
		case errors.As(err, &answer):
			final := answer.ErrorCode() == "AccessDeniedException"
			return nil, "", &channel.ConnectError{Err: err, Final: final, Answered: true}
		case err != nil:
			return nil, "", stepError(ctx, err)
		case resumed.Token == "":
			return nil, "", &channel.ConnectError{Err: &channel.EndedError{}, Final: true}
		}
		info.Token = resumed.Token
		info.StreamURL = cmp.Or(resumed.StreamURL, info.StreamURL)
	}
	socket, err := s.openSocket(ctx, info.StreamURL)
	if err != nil {
		var upgrade *UpgradeError
		if errors.As(err, &upgrade) && upgrade.Status != 0 {
			return nil, "", &channel.ConnectError{Err: err, Answered: true}
		}
		return nil, "", stepError(ctx, err)
	}
	return socket, info.Token, nil
}

// task runs a function that the end of the session waits for. It returns false if the session
// has ended.
func (s *session) task(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.failedAt.IsZero() {
		return false
	}
	s.tasks.Go(f)
	return true
}

// flag handles a flag of the agent.
func (s *session) flag(flag message.FlagValue) {
	if flag == message.ConnectToPortError {
		s.refused.Add(1)
	}
}

func (s *session) lost(err error) {
	s.upMu.Lock()
	s.up = make(chan struct{})
	s.upMu.Unlock()
	s.log.Info("Session Manager session lost its connection, resuming", zap.String("ssm_session", s.info.ID), zap.Error(err))
}

func (s *session) resumed(outage time.Duration) {
	s.attempts = 0
	s.upMu.Lock()
	s.attemptErr = nil
	close(s.up)
	s.upMu.Unlock()
	s.log.Info("Session Manager session resumed", zap.String("ssm_session", s.info.ID), zap.Float64("after_s", outage.Seconds()))
}
