// Layer writes the layer of AWS Lambda: an archive with iamproxy as an extension, and its
// licenses. It depends on nothing but the files.
package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// directory holds the licenses. Lambda unpacks all layers of a function into /opt.
const directory = "iamproxy"

func main() {
	binary := flag.String("binary", "", "the `FILE` with iamproxy for Linux")
	licenses := flag.String("licenses", "", "the `FILE` with the licenses of its modules")
	layer := flag.String("write", "", "the `FILE` to write")
	flag.Parse()
	if err := run(*binary, *licenses, *layer); err != nil {
		fmt.Fprintln(os.Stderr, "layer:", err)
		os.Exit(1)
	}
}

func run(binary, licenses, layer string) error {
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	w.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) { return flate.NewWriter(out, flate.BestCompression) })
	err := errors.Join(
		add(w, "extensions/iamproxy", 0o755, binary),
		add(w, directory+"/LICENSE", 0o644, "LICENSE"),
		add(w, directory+"/LICENSES", 0o644, licenses),
		w.Close(),
	)
	if err != nil {
		return err
	}
	return os.WriteFile(layer, archive.Bytes(), 0o644)
}

// add adds a file. Its time is the earliest that an archive can have.
func add(w *zip.Writer, name string, mode fs.FileMode, file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	header := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
	header.SetMode(mode)
	entry, err := w.CreateHeader(header)
	if err != nil {
		return err
	}
	_, err = entry.Write(content)
	return err
}
