package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// pipe transports the DevTools protocol: JSON messages, each followed by a NUL.
// https://chromedevtools.github.io/devtools-protocol/
type pipe struct {
	to io.Writer

	mu      sync.Mutex
	next    int
	waiting map[int]chan reply
	watch   map[string]func(method string, params json.RawMessage) // by session
	ended   error
}

type reply struct {
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

func newPipe(to io.Writer) *pipe {
	return &pipe{
		to:      to,
		waiting: make(map[int]chan reply),
		watch:   make(map[string]func(string, json.RawMessage)),
	}
}

// read dispatches messages until the end.
func (p *pipe) read(from io.Reader) {
	in := bufio.NewReader(from)
	for {
		text, err := in.ReadBytes(0)
		if err != nil {
			p.end(errors.New("the browser has ended"))
			return
		}
		var message struct {
			ID        int             `json:"id"`
			Method    string          `json:"method"`
			Params    json.RawMessage `json:"params"`
			SessionID string          `json:"sessionId"`
			reply
		}
		if err := json.Unmarshal(text[:len(text)-1], &message); err != nil {
			p.end(fmt.Errorf("the browser sent what is not understood: %w", err))
			return
		}
		p.mu.Lock()
		waiting, watch := p.waiting[message.ID], p.watch[message.SessionID]
		delete(p.waiting, message.ID)
		p.mu.Unlock()
		switch {
		case message.ID != 0 && waiting != nil:
			waiting <- message.reply
		case message.Method != "" && watch != nil:
			watch(message.Method, message.Params)
		}
	}
}

func (p *pipe) end(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = why
	for _, waiting := range p.waiting {
		close(waiting)
	}
	clear(p.waiting)
}

// call calls a method, and stores its result in result, which may be nil.
func (p *pipe) call(ctx context.Context, session, method string, params, result any) error {
	got, err := p.send(session, method, params)
	if err != nil {
		return err
	}
	select {
	case r, open := <-got:
		switch {
		case !open:
			return fmt.Errorf("%s: the browser has ended", method)
		case r.Error != nil:
			return fmt.Errorf("%s: %s", method, r.Error.Message)
		case result != nil:
			return json.Unmarshal(r.Result, result)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

func (p *pipe) send(session, method string, params any) (<-chan reply, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended != nil {
		return nil, fmt.Errorf("%s: %w", method, p.ended)
	}
	p.next++
	message := map[string]any{"id": p.next, "method": method}
	if params != nil {
		message["params"] = params
	}
	if session != "" {
		message["sessionId"] = session
	}
	text, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	got := make(chan reply, 1)
	p.waiting[p.next] = got
	_, err = p.to.Write(append(text, 0))
	return got, err
}

func (p *pipe) onEvent(session string, watch func(method string, params json.RawMessage)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watch[session] = watch
}
