package check

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestTextWriter(t *testing.T) {
	var plain, colored bytes.Buffer
	for out, colors := range map[*bytes.Buffer]bool{&plain: false, &colored: true} {
		w := &TextWriter{Out: out, Colors: colors}
		w.Step(Step{Name: "tcp", State: Failed, Found: "closed", Next: "open it", Seconds: 1.234})
		w.Step(Step{Name: "login", State: Failed, Found: "for the same reason", Next: "open it"})
		w.Step(Step{Name: "round trip", State: NotTried, Found: "because of tcp"})
		if err := w.Verdict(Report{Cause: "u cannot log in: closed", Next: "open it", More: "https://example.com/#closed"}); err != nil {
			t.Error(err)
		}
	}
	want := `tcp          failed          1234 ms  closed
                                      open it
login        failed             0 ms  for the same reason
round trip   not tried                because of tcp

failed: u cannot log in: closed
do this next:
open it
more: https://example.com/#closed
`
	if plain.String() != want {
		t.Errorf("plain:\n%s", plain.String())
	}
	if text := colored.String(); !strings.Contains(text, "\x1b[31mfailed       \x1b[0m ") || strings.NewReplacer("\x1b[31m", "", "\x1b[2m", "", "\x1b[0m", "").Replace(text) != want {
		t.Errorf("colored: %q", text)
	}
}

// On a terminal, texts are wrapped between words below each other. Commands are not.
func TestTextWriterWraps(t *testing.T) {
	var out bytes.Buffer
	w := &TextWriter{Out: &out, Width: 80}
	next := "# Check the name of the user. Otherwise run this command:\niamproxy grant mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com --user app"
	w.Step(Step{Name: "login", State: Failed, Found: "no user of this name exists in the database on arn:aws:rds-db:eu-west-1:111122223333:dbuser:cluster-A", Next: next})
	if err := w.Verdict(Report{Cause: "the user does not exist, and this is a cause that is longer than one line", Next: next}); err != nil {
		t.Error(err)
	}
	want := `login        failed             0 ms  no user of this name exists in the
                                      database on
                                      arn:aws:rds-db:eu-west-1:111122223333:dbuser:cluster-A
                                      # Check the name of the user. Otherwise
                                      # run this command:
                                      iamproxy grant mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com --user app

failed: the user does not exist, and this is a cause that is longer than one
line
do this next:
# Check the name of the user. Otherwise run this command:
iamproxy grant mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com --user app
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

// Verdict returns the error of an earlier write.
func TestTextWriterError(t *testing.T) {
	w := &TextWriter{Out: closedWriter{}}
	w.Step(Step{})
	if w.Verdict(Report{OK: true}) == nil {
		t.Error("no error")
	}
}

type closedWriter struct{}

func (closedWriter) Write([]byte) (int, error) { return 0, os.ErrClosed }
