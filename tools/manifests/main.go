// Manifests writes a formula for Homebrew, and manifests for Scoop and winget, beside the files of
// a release. They have the addresses and checksums of these files.
package main

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed templates
var templates embed.FS

func main() {
	version := flag.String("version", "", "the `VERSION`, such as v1.2.3")
	dist := flag.String("dist", "dist", "the `DIRECTORY` with the files of the release")
	flag.Parse()
	if err := run(*version, *dist); err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

// run writes each template to a file of the same name.
func run(version, dist string) error {
	if version == "" {
		return errors.New("-version is required")
	}
	all, err := template.New("").Option("missingkey=error").Funcs(template.FuncMap{
		"url":    func(file string) string { return address(version, file) },
		"sha256": func(file string) (string, error) { return checksum(filepath.Join(dist, file)) },
	}).ParseFS(templates, "templates/*")
	if err != nil {
		return err
	}
	for _, t := range all.Templates() {
		var text bytes.Buffer
		if err := t.Execute(&text, map[string]string{"Version": strings.TrimPrefix(version, "v")}); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dist, t.Name()), text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// address returns the URL of a file of a release.
func address(version, file string) string {
	return "https://github.com/iamproxy/iamproxy/releases/download/" + version + "/" + file
}

func checksum(file string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:]), nil
}
