package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const isc = `Permission to use, copy, modify, and/or distribute this software for any
purpose with or without fee is hereby granted, provided that the above
copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES
WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF
MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR
ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES
WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF
OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
`

const agpl = `This program is free software: you can redistribute it and/or modify
it under the terms of the GNU Affero General Public License as published
by the Free Software Foundation, either version 3 of the License, or
(at your option) any later version.

This program is distributed in the hope that it will be useful,
but WITHOUT ANY WARRANTY; without even the implied warranty of
MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
GNU Affero General Public License for more details.

You should have received a copy of the GNU Affero General Public License
along with this program.  If not, see <https://www.gnu.org/licenses/>.
`

func TestLicenses(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		ids   []string
		want  string // in the error
	}{
		"a fine one":              {map[string]string{"LICENSE.txt": isc, "README": "x"}, []string{"ISC"}, ""},
		"none":                    {map[string]string{"main.go": "package main"}, nil, "no license was found"},
		"one of one's own":        {map[string]string{"LICENSE": "Do as I say, not as I do, and send me a card."}, nil, "nobody knows the license"},
		"one of one's own beside": {map[string]string{"LICENSE": isc, "LICENSE.enterprise": "Pay me."}, nil, "nobody knows the license"},
		"another below":           {map[string]string{"LICENSE": isc, "sub/LICENSE": agpl}, nil, "is under AGPL-3.0"},
		"one that is not fine":    {map[string]string{"COPYING": agpl}, nil, "is under AGPL-3.0"},
		"one of each":             {map[string]string{"LICENSE": isc, "LICENSE.agpl": agpl}, nil, "is under AGPL-3.0"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range test.files {
				if err := os.MkdirAll(filepath.Join(dir, "sub", "package"), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			found, err := module{"example.com/m v1", dir, []string{filepath.Join(dir, "sub", "package")}}.licenses()
			if test.want == "" && (err != nil || !slices.Equal(found.ids, test.ids) || len(found.texts) != 1) {
				t.Errorf("%+v, %v", found, err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// A text is printed once for all its modules, in a fixed order.
func TestTogether(t *testing.T) {
	text := string(together(map[string][]string{"one": {"b", "c"}, "two": {"a"}}))
	if !strings.HasSuffix(text, "==== a\n\ntwo\n\n==== b\n==== c\n\none\n\n") {
		t.Errorf("got %q", text)
	}
}
