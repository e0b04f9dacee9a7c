//go:build unix

package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// notRun has words of the blocks of the page that no program runs.
var notRun = []string{`"pool": {`, "ConnectionStrings"}

// Every block of the page belongs to a framework, or is listed in notRun.
func TestExamples(t *testing.T) {
	text, err := os.ReadFile("../../docs/frameworks.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	var examples []string
	for _, f := range frameworks {
		example, err := f.example(page)
		if err != nil {
			t.Errorf("%s: %v", f.name, err)
			continue
		}
		examples = append(examples, example)
		if socket, err := f.overSocket(page, example); err != nil || f.socket != nil && !strings.Contains(socket, folder) {
			t.Errorf("%s: %v", f.name, err)
		}
	}
	blocks := fenced.FindAllStringSubmatch(page, -1)
	if len(blocks) != len(frameworks)+len(notRun) {
		t.Errorf("%d blocks, want %d", len(blocks), len(frameworks)+len(notRun))
	}
	for _, block := range blocks {
		if !slices.Contains(examples, block[1]) && !slices.ContainsFunc(notRun, func(word string) bool { return strings.Contains(block[1], word) }) {
			t.Errorf("no program runs\n%s", block[1])
		}
	}
}

// There is a program for every connection string of docs/clients.md.
func TestConnectionStrings(t *testing.T) {
	text, err := os.ReadFile("../../" + clientsPage)
	if err != nil {
		t.Fatal(err)
	}
	found := stringsOf(string(text))
	for _, f := range connectionStrings {
		if found[f.name] == "" {
			t.Errorf("the page has no connection string of %s", f.name)
		}
		delete(found, f.name)
	}
	if len(found) != 0 {
		t.Errorf("no program uses %q", found)
	}
}

// A block that is missing or that is there twice is an error, and so is a change for a unix
// socket that the page does not have.
func TestExampleErrors(t *testing.T) {
	f := framework{word: "host", socket: []string{"localhost", folder}}
	const block = "```yaml\nhost: localhost\n```\n"
	for _, page := range []string{"", "host: localhost\n", block + "\n" + block} {
		if example, err := f.example(page); err == nil {
			t.Errorf("%q: %q", page, example)
		}
	}
	example, err := f.example(block)
	if err != nil || example != "host: localhost\n" {
		t.Fatalf("%q, %v", example, err)
	}
	if socket, err := f.overSocket(block, example); err == nil {
		t.Errorf("a page without the folder: %q", socket)
	}
	if socket, err := f.overSocket(block+folder, example); err != nil || socket != "host: "+folder+"\n" {
		t.Errorf("%q, %v", socket, err)
	}
}
