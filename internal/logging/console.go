package logging

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/iamproxy/iamproxy/internal/text"
)

// Console is the format of lines for people at a terminal.
type Console struct {
	Colors bool
	// Listeners adds the address of the listener to the lines of sessions.
	Listeners bool
}

// Event describes an event of a client for a line of the console.
type Event struct {
	Subject string // such as the user and the database
	Action  Action
	Details []string
}

// Action is the kind of an event.
type Action string

// The actions.
const (
	Connected    Action = "connected"
	Disconnected Action = "disconnected"
	Refused      Action = "refused"
	Retrying     Action = "retrying"
	GaveUp       Action = "gave up"
)

// ForConsole returns a field with an event, which replaces the message and the other fields in
// the line for the console. JSON does not contain the field, and does not call event.
func ForConsole(event func() Event) zap.Field { return consoleField(event) }

// TextForConsole returns a field with a text, which replaces the line for the console. There is
// no line if the text is empty. JSON does not contain the field.
func TextForConsole(text string) zap.Field { return consoleField(consoleText(text)) }

// MessageForConsole returns a field with a text, which replaces the message and the other fields
// in the line for the console, but for the listener. JSON does not contain the field.
func MessageForConsole(text string) zap.Field { return consoleField(consoleMessage(text)) }

// Print writes a text to the console. It does nothing if log writes JSON, or no lines of the
// level.
func Print(log *zap.Logger, level zapcore.Level, text string) {
	if core, ok := log.Core().(*consoleCore); ok && core.Enabled(level) {
		_ = core.writeText(consoleText(text))
	}
}

type consoleText string

type consoleMessage string

// consoleField returns a field that the JSON encoder ignores.
func consoleField(content any) zap.Field {
	return zap.Field{Type: zapcore.SkipType, Interface: content}
}

// consoleCore writes lines for the console. It is made for the few lines of a developer's
// process, not for speed.
type consoleCore struct {
	zapcore.LevelEnabler
	out    zapcore.WriteSyncer
	format Console
	fields []zap.Field
}

func (c *consoleCore) With(fields []zap.Field) zapcore.Core {
	with := *c
	with.fields = slices.Concat(c.fields, fields)
	return &with
}

func (c *consoleCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

func (c *consoleCore) Sync() error { return c.out.Sync() }

func (c *consoleCore) Write(e zapcore.Entry, fields []zap.Field) error {
	fields = slices.Concat(c.fields, fields)
	clock := c.color(dim, e.Time.Local().Format(time.TimeOnly)) + "  "
	for _, field := range fields {
		switch content := field.Interface.(type) {
		case consoleText:
			return c.writeText(content)
		case consoleMessage:
			return c.write(clock + c.formatLevel(e.Level) + text.OneLine(string(content)) + c.listener(fields))
		case func() Event:
			return c.write(clock + c.formatEvent(content()) + c.listener(fields))
		}
	}
	return c.write(clock + c.formatEntry(e, fields))
}

func (c *consoleCore) writeText(text consoleText) error {
	if text == "" {
		return nil
	}
	var lines []string
	for part := range strings.SplitSeq(string(text), "\n") {
		lines = append(lines, printable(part))
	}
	return c.write(strings.Join(lines, "\n"))
}

func (c *consoleCore) write(line string) error {
	_, err := c.out.Write([]byte(line + "\n"))
	return err
}

// printable returns a line with a space for each character that does not print.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, line)
}

// formatEvent formats an event in columns.
func (c *consoleCore) formatEvent(e Event) string {
	action := c.color(actionColors[e.Action], fmt.Sprintf("%-12s", e.Action))
	var details []string
	for _, detail := range e.Details {
		if detail = text.OneLine(detail); detail != "" {
			details = append(details, detail)
		}
	}
	return fmt.Sprintf("%-20s  %s  %s", text.OneLine(e.Subject), action, strings.Join(details, ", "))
}

// listener returns the listener among the fields, if there is more than one listener.
func (c *consoleCore) listener(fields []zap.Field) string {
	if c.format.Listeners {
		for _, field := range fields {
			if field.Key == "listen" {
				return "  [" + text.OneLine(field.String) + "]"
			}
		}
	}
	return ""
}

// formatEntry formats a line as the level, the message with the error, the other fields, and
// the hint.
func (c *consoleCore) formatEntry(e zapcore.Entry, fields []zap.Field) string {
	encoder := zapcore.NewMapObjectEncoder()
	var keys []string
	for _, field := range fields {
		if field.Type != zapcore.SkipType {
			field.AddTo(encoder)
			keys = append(keys, field.Key)
		}
	}
	line := c.formatLevel(e.Level) + text.OneLine(e.Message)
	if cause, _ := encoder.Fields["error"].(string); cause != "" {
		line += ": " + text.OneLine(cause)
	}
	for _, key := range keys {
		if key != "error" && key != "hint" {
			line += formatField(key, encoder.Fields[key])
		}
	}
	if hint, _ := encoder.Fields["hint"].(string); hint != "" {
		line += "  -> " + text.OneLine(hint)
	}
	return line
}

func (c *consoleCore) formatLevel(level zapcore.Level) string {
	return c.color(levelColors[level], fmt.Sprintf("%-5s", level)) + "  "
}

// formatField returns " key=value", or an empty text for an empty value. For an object, it
// returns " key.name=value" for each name in it.
func formatField(key string, value any) string {
	switch value := value.(type) {
	case map[string]any:
		var fields string
		for _, name := range slices.Sorted(maps.Keys(value)) {
			fields += formatField(key+"."+name, value[name])
		}
		return fields
	case time.Time:
		return " " + key + "=" + value.Local().Format("2006-01-02T15:04:05")
	case []any:
		var words []string
		for _, word := range value {
			words = append(words, fmt.Sprint(word))
		}
		return formatField(key, strings.Join(words, ","))
	case nil:
		return ""
	}
	word := text.OneLine(fmt.Sprint(value))
	switch {
	case word == "":
		return ""
	case strings.ContainsAny(word, ` "=`):
		word = strconv.Quote(word)
	}
	return " " + key + "=" + word
}

type color string

const (
	red    color = "31"
	green  color = "32"
	yellow color = "33"
	dim    color = "2"
)

var actionColors = map[Action]color{Connected: green, Refused: red, Retrying: yellow, GaveUp: yellow, Disconnected: dim}

var levelColors = map[zapcore.Level]color{zapcore.DebugLevel: dim, zapcore.WarnLevel: yellow, zapcore.ErrorLevel: red}

func (c *consoleCore) color(code color, text string) string {
	if !c.format.Colors || code == "" {
		return text
	}
	return "\x1b[" + string(code) + "m" + text + "\x1b[m"
}
