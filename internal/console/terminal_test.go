package console

import (
	"bytes"
	"os"
	"testing"
)

// Only terminals get colors.
func TestSupportsColors(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if SupportsColors(file) || SupportsColors(new(bytes.Buffer)) {
		t.Error("colors in a file")
	}
}
