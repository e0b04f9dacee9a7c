package portforward

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain runs one of programs if the first argument names it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && programs[os.Args[1]] != nil {
		code, err := programs[os.Args[1]](os.Args[2:])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code) //nolint:forbidigo // this is a TestMain
	}
	goleak.VerifyTestMain(m)
}

// programs are test programs. Their first argument is the local port; a program that
// listens on it greets its clients.
var programs = map[string]func(args []string) (code int, err error){
	"greet":      func(args []string) (int, error) { return 1, greet(args[0], -1) },
	"greet-once": func(args []string) (int, error) { return 3, greet(args[0], 1) },
	"greet-late": func(args []string) (int, error) {
		time.Sleep(300 * time.Millisecond)
		return 1, greet(args[0], -1)
	},
	"fail": func(args []string) (int, error) { return 254, fmt.Errorf("\n%s\n", strings.Join(args[1:], " ")) },
	"silent": func([]string) (int, error) {
		fmt.Fprintln(os.Stdout, "Starting")
		time.Sleep(time.Hour) // without cgo, Go ends a process that waits for nothing
		return 1, nil
	},
	"flood":          flood,
	"spawn":          spawn,
	"ignore-sigterm": ignoreSIGTERM,
	"abandon":        abandon,
	"getenv":         func(args []string) (int, error) { return 1, errors.New(os.Getenv(args[1])) },
}

// greet sends hello to each client. After times clients it returns; if times is negative,
// it never does.
func greet(port string, times int) error {
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "Waiting for connections...")
	for ; times != 0; times-- {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		fmt.Fprintln(os.Stdout, "Connection accepted")
		fmt.Fprint(conn, "hello")
		conn.Close()
	}
	return errors.New("good bye")
}

// flood writes many lines and a long one.
func flood(args []string) (int, error) {
	for i := range 20000 {
		fmt.Fprintln(os.Stdout, "line", i)
	}
	fmt.Fprintln(os.Stdout, strings.Repeat("long ", 100_000))
	return 1, greet(args[0], -1)
}

// spawn runs another program and waits for it, as the AWS CLI does.
func spawn(args []string) (int, error) {
	if err := register(args[1]); err != nil {
		return 1, err
	}
	child := exec.Command(os.Args[0], args[2], args[0], args[1])
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	return 1, child.Run()
}

// abandon starts another program and exits once that listens.
func abandon(args []string) (int, error) {
	child := exec.Command(os.Args[0], "ignore-sigterm", args[0], args[1])
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Start(); err != nil {
		return 1, err
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+args[0])
	for ; err != nil; conn, err = net.Dial("tcp", "127.0.0.1:"+args[0]) {
		time.Sleep(5 * time.Millisecond)
	}
	conn.Close()
	return 4, errors.New("left a child")
}

// ignoreSIGTERM greets clients and ignores SIGTERM.
func ignoreSIGTERM(args []string) (int, error) {
	signal.Ignore(syscall.SIGTERM)
	if err := register(args[1]); err != nil {
		return 1, err
	}
	return 1, greet(args[0], -1)
}

// register connects to a monitor. The connection ends when this process exits.
func register(monitor string) error {
	conn, err := net.Dial("tcp", monitor)
	if err == nil {
		registered = append(registered, conn)
	}
	return err
}

// registered keeps the connections from being closed by a finalizer.
var registered []net.Conn
