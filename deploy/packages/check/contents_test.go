//go:build linux

package check

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// common has the files of each package with their modes, as ls writes them.
var common = map[string]string{
	"/usr/bin/iamproxy":                                  "-rwxr-xr-x",
	"/etc/iamproxy/env":                                  "-rw-------",
	"/usr/share/man/man1/iamproxy.1.gz":                  "-rw-r--r--",
	"/usr/share/bash-completion/completions/iamproxy":    "-rw-r--r--",
	"/usr/share/fish/vendor_completions.d/iamproxy.fish": "-rw-r--r--",
}

// units has the files of the packages for systems with systemd.
var units = map[string]string{
	"/usr/bin/iamproxy-restart":                 "-rwxr-xr-x",
	"/usr/lib/systemd/system/iamproxy.service":  "-rw-r--r--",
	"/usr/lib/systemd/system/iamproxy@.service": "-rw-r--r--",
	"/usr/lib/systemd/system/iamproxy.socket":   "-rw-r--r--",
}

// listed matches a file in the output of dpkg-deb and rpm.
var listed = regexp.MustCompile(`(?m)^(-\S+) .* \.?(/\S+)$`)

func compare(t *testing.T, found map[string]string, wants ...map[string]string) {
	t.Helper()
	want := map[string]string{}
	for _, w := range wants {
		maps.Copy(want, w)
	}
	if !maps.Equal(found, want) {
		t.Errorf("the package has %v, want %v", found, want)
	}
}

func TestDeb(t *testing.T) {
	deb := file(t, earlier, "deb")
	found := map[string]string{}
	for _, match := range listed.FindAllStringSubmatch(tool(t, "dpkg-deb", "--contents", deb), -1) {
		found[match[2]] = match[1]
	}
	compare(t, found, common, units, map[string]string{
		"/usr/share/zsh/vendor-completions/_iamproxy": "-rw-r--r--",
		"/usr/share/doc/iamproxy/copyright":           "-rw-r--r--",
		"/usr/share/doc/iamproxy/licenses.txt":        "-rw-r--r--",
	})
	if got := tool(t, "dpkg-deb", "--info", deb, "conffiles"); got != "/etc/iamproxy/env\n" {
		t.Errorf("conffiles: %q", got)
	}
	if got := strings.TrimSpace(tool(t, "dpkg-deb", "--field", deb, "Version")); got != "1.2.3~rc.1" {
		t.Errorf("version %s", got)
	}
	tool(t, "dpkg", "--compare-versions", "1.2.3~rc.1", "lt", strings.TrimSpace(tool(t, "dpkg-deb", "--field", file(t, later, "deb"), "Version")))
}

func TestRPM(t *testing.T) {
	rpm := file(t, earlier, "rpm")
	found := map[string]string{}
	for _, match := range listed.FindAllStringSubmatch(tool(t, "rpm", "--query", "--list", "--verbose", "--package", rpm), -1) {
		found[match[2]] = match[1]
	}
	compare(t, found, common, units, map[string]string{
		"/usr/share/zsh/site-functions/_iamproxy":   "-rw-r--r--",
		"/usr/share/licenses/iamproxy/LICENSE":      "-rw-r--r--",
		"/usr/share/licenses/iamproxy/licenses.txt": "-rw-r--r--",
	})
	// Flags of the file: 1 is a configuration file, and 16 is noreplace.
	if got := tool(t, "rpm", "--query", "--queryformat", "[%{FILENAMES} %{FILEFLAGS}\n]", "--package", rpm); !strings.Contains(got, "/etc/iamproxy/env 17\n") {
		t.Errorf("flags: %s", got)
	}
	if got := tool(t, "rpm", "--query", "--queryformat", "%{VERSION} %{BUILDHOST} %{LICENSE}", "--package", rpm); got != "1.2.3~rc.1 iamproxy Apache-2.0" {
		t.Errorf("it has %s", got)
	}
}

// A package for Alpine consists of two archives, each compressed: the scripts and metadata, and the
// files. The metadata has the checksum of the files.
func TestAPK(t *testing.T) {
	content, err := os.ReadFile(file(t, earlier, "apk"))
	if err != nil {
		t.Fatal(err)
	}
	packed := bytes.NewReader(content)
	control := entries(t, packed)
	data := content[len(content)-packed.Len():]
	files := entries(t, packed)
	found := map[string]string{}
	for name, entry := range files {
		found["/"+name] = entry.mode
	}
	compare(t, found, common, map[string]string{
		"/etc/init.d/iamproxy":                      "-rwxr-xr-x",
		"/usr/share/zsh/site-functions/_iamproxy":   "-rw-r--r--",
		"/usr/share/licenses/iamproxy/LICENSE":      "-rw-r--r--",
		"/usr/share/licenses/iamproxy/licenses.txt": "-rw-r--r--",
	})
	if names := slices.Sorted(maps.Keys(control)); !slices.Equal(names, []string{".PKGINFO", ".post-deinstall", ".post-upgrade", ".pre-deinstall", ".pre-install"}) {
		t.Errorf("the control archive has %q", names)
	}
	sum := sha256.Sum256(data)
	for _, line := range []string{"pkgname = iamproxy", "pkgver = 1.2.3_rc1", "arch = x86_64", "license = Apache-2.0", "datahash = " + hex.EncodeToString(sum[:])} {
		if !strings.Contains("\n"+control[".PKGINFO"].content, "\n"+line+"\n") {
			t.Errorf("no %q in %s", line, control[".PKGINFO"].content)
		}
	}
}

type entry struct{ mode, content string }

// entries returns the files of a compressed archive, and leaves the reader after it.
func entries(t *testing.T, packed *bytes.Reader) map[string]entry {
	t.Helper()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	unpacked.Multistream(false)
	found := map[string]entry{}
	for archive := tar.NewReader(unpacked); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // the first archive has no end, so that the second continues it
			break
		} else if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeReg {
			found[header.Name] = entry{header.FileInfo().Mode().String(), string(content)}
		}
	}
	if _, err := io.Copy(io.Discard, unpacked); err != nil {
		t.Fatal(err)
	}
	return found
}
