// Screenshot takes a picture of a page.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/iamproxy/iamproxy/test/browser"
)

func main() {
	url := flag.String("url", "", "the page")
	file := flag.String("o", "", "the PNG to write")
	width := flag.Int64("width", 1200, "of the screen, in pixels")
	height := flag.Int64("height", 800, "of the screen; the picture is of the whole page if that is longer")
	dark := flag.Bool("dark", false, "for those who prefer it dark")
	sharpness := flag.Float64("sharpness", 1, "pixels of the picture for one of the screen")
	flag.Parse()
	screen := browser.Screen{Width: *width, Height: *height, Dark: *dark, Sharpness: *sharpness}
	if err := take(*url, *file, screen); err != nil {
		fmt.Fprintln(os.Stderr, "screenshot:", err)
		os.Exit(1)
	}
}

func take(url, file string, screen browser.Screen) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b, err := browser.Start(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	page, err := b.Open(url, screen)
	if err != nil {
		return err
	}
	picture, err := page.Screenshot()
	if err != nil {
		return err
	}
	return os.WriteFile(file, picture, 0o644)
}
