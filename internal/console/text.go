package console

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/iamproxy/iamproxy/internal/endpoint"
	"github.com/iamproxy/iamproxy/internal/listen"
	"github.com/iamproxy/iamproxy/internal/text"
	"github.com/iamproxy/iamproxy/proxy"
)

// EndpointText returns the psql command line for a listener, and the endpoint that it leads to.
func EndpointText(e endpoint.Endpoint, address string) string {
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

// maxListed is the maximum number of users, and of applications of one user, in a line.
const maxListed = 5

// DrainText describes the sessions that a shutdown waits for, and its limit. open is the number of sessions and
// logins; sessions has those that are known by name.
func DrainText(open int, sessions []proxy.SessionInfo, least, most time.Duration) string {
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
	if most == 0 {
		return fmt.Sprintf("Closing %s%s.", text.Plural(open, "session"), names)
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

// Users returns the database users of sessions in alphabetical order, each once.
func Users(sessions []proxy.SessionInfo) []string {
	var users []string
	for _, s := range sessions {
		users = append(users, s.User)
	}
	slices.Sort(users)
	return slices.Compact(users)
}
