//go:build !unix

package main

import (
	"context"
	"errors"
	"net"
	"os"
)

func listenUnix(context.Context, string, os.FileMode) (net.Listener, error) {
	return nil, errors.New("unix sockets are for unix systems; use HOST:PORT")
}

// listens is never asked: nobody passes sockets here.
func listens(*os.File) error { return nil }
