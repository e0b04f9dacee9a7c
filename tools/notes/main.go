// Notes prints the section of CHANGELOG.md about one version, for the page of its release.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit code: 0 done, 1 failed, 2 wrong usage.
func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("notes", flag.ContinueOnError)
	flags.SetOutput(stderr)
	file := flags.String("file", "CHANGELOG.md", "the changelog")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	if flags.NArg() != 1 {
		fmt.Fprintln(stderr, "notes: which version? as in: notes v1.2.3")
		return 2
	}
	changelog, err := os.ReadFile(*file)
	if err != nil {
		fmt.Fprintf(stderr, "notes: %v\n", err)
		return 1
	}
	text, err := section(string(changelog), strings.TrimPrefix(flags.Arg(0), "v"))
	if err != nil {
		fmt.Fprintf(stderr, "notes: %s: %v\n", *file, err)
		return 1
	}
	fmt.Fprintln(stdout, text)
	return 0
}

// links are the targets of the headings, at the end of the changelog.
var links = regexp.MustCompile(`(?m)^\[[^]]+\]: .*$`)

// folds match line breaks within an item of a list. GitHub renders every line break in a
// release's notes.
var folds = regexp.MustCompile(`\n +([^ *-])`)

// section returns the text below the heading of a version, up to the next heading.
func section(changelog, version string) (string, error) {
	heading := "## [" + version + "] - "
	_, rest, found := strings.Cut("\n"+changelog, "\n"+heading)
	if !found {
		return "", fmt.Errorf("no line begins with %q: give what is under \"Unreleased\" that heading and the day", heading)
	}
	day, rest, _ := strings.Cut(rest, "\n")
	if _, err := time.Parse(time.DateOnly, day); err != nil {
		return "", fmt.Errorf("%q goes on with %q, which is no day: write it as 2006-01-02", heading, day)
	}
	text, _, _ := strings.Cut("\n"+rest, "\n## ")
	text = strings.TrimSpace(links.ReplaceAllString(text, ""))
	text = folds.ReplaceAllString(text, " $1")
	if text == "" {
		return "", fmt.Errorf("nothing stands below %q", heading+day)
	}
	return text, nil
}
