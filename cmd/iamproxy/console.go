package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/term"

	"github.com/iamproxy/iamproxy/auth"
	"github.com/iamproxy/iamproxy/internal/admin"
	"github.com/iamproxy/iamproxy/internal/endpoint"
	"github.com/iamproxy/iamproxy/internal/listen"
	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy"
)

// consoleFormat returns the format of the log for the console, or nil for JSON.
func (c *runCommand) consoleFormat(out io.Writer) *logging.Console {
	if c.LogFormat == "json" || c.LogFormat == "" && !isTerminal(out) {
		return nil
	}
	return &logging.Console{Colors: supportsColors(out), Listeners: len(c.settings.endpoints) > 1}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// supportsColors reports whether out is a terminal with colors. On Windows, only Windows Terminal
// is known to support them. See https://no-color.org.
func supportsColors(out io.Writer) bool {
	supports := isTerminal(out) && os.Getenv("TERM") != "dumb"
	if runtime.GOOS == "windows" {
		supports = supports && os.Getenv("WT_SESSION") != ""
	}
	return supports && os.Getenv("NO_COLOR") == ""
}

// terminalWidth returns the number of columns if out is a terminal, or 0.
func terminalWidth(out io.Writer) int {
	file, ok := out.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// endpointLines returns how to connect to an endpoint with psql, and where it leads.
func endpointLines(e endpoint.Endpoint, address string) string {
	target := "any instance"
	if e.NeedsWriter() {
		target = "writer"
	}
	facts := []string{target, e.Region}
	if via := e.ViaName(); via != "" {
		facts = append(facts, "via "+via)
	}
	return fmt.Sprintf("  %s\n       -> %s (%s)", listen.PSQLCommand(address, e.User, e.Database),
		strings.TrimSuffix(e.Address(), ":5432"), strings.Join(facts, ", "))
}

// readyInterval is the pause between two looks at credentials that are missing.
const readyInterval = time.Second

// callerTimeout bounds the wait for the answer of STS before the console says Ready.
const callerTimeout = 2 * time.Second

// printReady prints whether clients can log in: once callers are logged, and when missing
// credentials are there.
func (s *server) printReady(ctx context.Context, callersLogged <-chan struct{}) {
	select {
	case <-callersLogged:
	case <-time.After(callerTimeout):
	}
	missing := s.missingCredentials(ctx)
	switch {
	case ctx.Err() != nil:
		return
	case missing == nil:
		logging.Print(s.log, zap.InfoLevel, "Ready. Ctrl-C to stop.")
		return
	}
	logging.Print(s.log, zap.WarnLevel, "Not ready: "+text.OneLine(missing.Error()))
	var explained *auth.Error
	if errors.As(missing, &explained) && explained.Hint != "" {
		logging.Print(s.log, zap.WarnLevel, "  -> "+text.OneLine(explained.ClientAdvice()))
	}
	logging.Print(s.log, zap.InfoLevel, "Ctrl-C to stop.")
	ticker := time.NewTicker(readyInterval)
	defer ticker.Stop()
	for slices.ContainsFunc(s.adminServer.Endpoints, lacksCredentials) {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
	logging.Print(s.log, zap.InfoLevel, "Ready.")
}

// missingCredentials returns the error of the first endpoint without valid credentials.
func (s *server) missingCredentials(ctx context.Context) error {
	for _, e := range s.adminServer.Endpoints {
		if err := cmp.Or(e.Signer.Ready(ctx), e.Signer.Status().Rejected); err != nil {
			return err
		}
	}
	return nil
}

// lacksCredentials reports whether the last attempt to fetch credentials has failed, or AWS
// rejects them. It sends no request.
func lacksCredentials(e admin.Endpoint) bool {
	status := e.Signer.Status()
	return status.Err != nil || status.Rejected != nil
}

// maxListed is the maximum number of users, and of applications of one user, in a line.
const maxListed = 5

// drainText returns what a shutdown waits for, and how long. open is the number of sessions and
// logins; sessions has those that are known by name.
func drainText(open int, sessions []proxy.SessionInfo, least, most time.Duration) string {
	switch {
	case open == 0 && least == 0:
		return ""
	case open == 0:
		return fmt.Sprintf("No session is open. Accepting new clients for %s. Press Ctrl-C again to stop now.", text.Duration(least))
	}
	var users []string
	applications := make(map[string][]string) // by user
	for _, s := range sessions {
		if !slices.Contains(users, s.User) {
			users = append(users, s.User)
		}
		if s.ApplicationName != "" && !slices.Contains(applications[s.User], s.ApplicationName) {
			applications[s.User] = append(applications[s.User], s.ApplicationName)
		}
	}
	var lists []string
	for _, user := range users {
		list := user
		if names := applications[user]; len(names) > 0 {
			list += ": " + strings.Join(shorten(names), ", ")
		}
		lists = append(lists, list)
	}
	names := strings.Join(shorten(lists), "; ")
	if names != "" {
		names = " (" + names + ")"
	}
	return fmt.Sprintf("Waiting for %s%s, %s at most. Press Ctrl-C again to close them now.",
		text.Plural(open, "session"), names, text.Duration(most))
}

// shorten replaces words beyond maxListed with their number.
func shorten(words []string) []string {
	if more := len(words) - maxListed; more > 0 {
		return append(words[:maxListed:maxListed], fmt.Sprintf("%d more", more))
	}
	return words
}
