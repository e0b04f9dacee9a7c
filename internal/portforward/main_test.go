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

// TestMain is also the program that forwards, if the first argument says so.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && programs[os.Args[1]] != nil {
		code, err := programs[os.Args[1]](os.Args[2:])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code) //nolint:forbidigo // the way of a TestMain
	}
	goleak.VerifyTestMain(m)
}

// programs greet who connects to the port that is their first argument.
var programs = map[string]func(args []string) (code int, err error){
	"greets":      func(args []string) (int, error) { return 1, greet(args[0], -1) },
	"greets-once": func(args []string) (int, error) { return 3, greet(args[0], 1) },
	"greets-late": func(args []string) (int, error) {
		time.Sleep(300 * time.Millisecond)
		return 1, greet(args[0], -1)
	},
	"fails":    func(args []string) (int, error) { return 254, fmt.Errorf("\n%s\n", strings.Join(args[1:], " ")) },
	"silent":   func([]string) (int, error) { fmt.Fprintln(os.Stdout, "Starting"); select {} },
	"floods":   flood,
	"plugs":    plug,
	"stubborn": beStubborn,
	"leaves":   leave,
	"tells":    func(args []string) (int, error) { return 1, errors.New(os.Getenv(args[1])) },

	"says-good-bye": sayGoodBye,
}

// greet says hello so many times, or without end.
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
	return fmt.Errorf("good bye")
}

func flood(args []string) (int, error) {
	for i := range 20000 {
		fmt.Fprintln(os.Stdout, "line", i)
	}
	fmt.Fprintln(os.Stdout, strings.Repeat("long ", 100_000))
	return 1, greet(args[0], -1)
}

// plug is seen by a witness, and starts another program, as the AWS CLI does; it ends with it.
func plug(args []string) (int, error) {
	if err := appear(args[1]); err != nil {
		return 1, err
	}
	other := exec.Command(os.Args[0], args[2], args[0], args[1])
	other.Stdout, other.Stderr = os.Stdout, os.Stderr
	return 1, other.Run()
}

// leave is plug, but it does not wait for the other.
func leave(args []string) (int, error) {
	other := exec.Command(os.Args[0], "stubborn", args[0], args[1])
	other.Stdout, other.Stderr = os.Stdout, os.Stderr
	if err := other.Start(); err != nil {
		return 1, err
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+args[0])
	for ; err != nil; conn, err = net.Dial("tcp", "127.0.0.1:"+args[0]) {
		time.Sleep(5 * time.Millisecond)
	}
	conn.Close()
	return 4, fmt.Errorf("left it behind")
}

// sayGoodBye keeps nothing of its output, and tells the witness when it is asked to end.
func sayGoodBye(args []string) (int, error) {
	os.Stdout.Close()
	os.Stderr.Close()
	if err := appear(args[1]); err != nil {
		return 1, err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go greet(args[0], -1) //nolint:errcheck // it has none to tell
	<-signals
	time.Sleep(300 * time.Millisecond)
	_, err := fmt.Fprint(held[0], "good bye")
	return 0, err
}

// beStubborn greets, and does not end when it is asked to.
func beStubborn(args []string) (int, error) {
	signal.Ignore(syscall.SIGTERM)
	if err := appear(args[1]); err != nil {
		return 1, err
	}
	return 1, greet(args[0], -1)
}

// appear connects to the witness, who sees then when the process is gone.
func appear(witness string) error {
	conn, err := net.Dial("tcp", witness)
	if err == nil {
		held = append(held, conn)
	}
	return err
}

var held []net.Conn // so that none is closed for want of use
