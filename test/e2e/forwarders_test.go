//go:build unix

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/aurora"
)

// init makes the test's binary act as a program that forwards a port if it is started under
// its name: the AWS CLI, its Session Manager plugin, ssh, kubectl, or a plain one.
func init() {
	program := map[string]func([]string) error{"aws": beAWS, "session-manager-plugin": bePlugin, "bastion": beBastion, "ssh": beSSH, "kubectl": beKubectl}[filepath.Base(os.Args[0])]
	if program == nil {
		return
	}
	if err := program(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(254) //nolint:forbidigo // it is the program
	}
	os.Exit(0) //nolint:forbidigo // it is the program
}

// The environment of these programs.
const (
	forwardTo      = "TEST_FORWARD_TO"      // the address of the database
	forwardWitness = "TEST_FORWARD_WITNESS" // the socket that they report to
	forwardMode    = "TEST_FORWARD_MODE"    // a file with one of the modes below; if empty, they work
	forwardSSM     = "TEST_FORWARD_SSM"     // the expected SSM session: TARGET REGION PROFILE
)

const (
	refuses = "refuses" // ends at once
	hangs   = "hangs"   // never listens
	barred  = "barred"  // does not reach the database
	late    = "late"    // listens after some time
)

const notReached = "Connection to destination port failed, check SSM Agent logs."

const refusal = "An error occurred (TargetNotConnected) when calling the StartSession operation: i-0123456789abcdef0 is not connected."

// beAWS accepts only the arguments that iamproxy should use, and starts the plugin as the
// AWS CLI does. It also has the commands of the README.
func beAWS(args []string) error {
	if len(args) > 0 && args[0] != "ssm" {
		return callAWS(context.Background(), args)
	}
	if err := checkSSM(args); err != nil {
		return err
	}
	if err := appear("aws"); err != nil {
		return err
	}
	switch mode, _ := os.ReadFile(os.Getenv(forwardMode)); string(mode) {
	case refuses:
		return fmt.Errorf("\n%s", refusal)
	case hangs:
		fmt.Fprintln(os.Stdout, "\nStarting session with SessionId: dev-0123456789abcdef0")
		select {}
	}
	signal.Ignore(os.Interrupt)
	given, err := readParameters(args[7])
	if err != nil {
		return err
	}
	parameters, err := json.Marshal(given)
	if err != nil {
		return err
	}
	input := `{"Target":"` + args[3] + `","DocumentName":"` + args[5] + `","Parameters":` + string(parameters) + `}`
	plugin := exec.Command("session-manager-plugin", "AWS_SSM_START_SESSION_RESPONSE", args[9], "StartSession", "", input, "https://ssm."+args[9]+".amazonaws.com")
	plugin.Stdout, plugin.Stderr = os.Stdout, os.Stderr
	return plugin.Run()
}

func checkSSM(args []string) error {
	want := strings.Fields(os.Getenv(forwardSSM))
	expected := []string{"ssm", "start-session", "--target", want[0], "--document-name", "AWS-StartPortForwardingSessionToRemoteHost", "--parameters", "", "--region", want[1]}
	if len(want) > 2 {
		expected = append(expected, "--profile", want[2])
	}
	if len(args) != len(expected) {
		return fmt.Errorf("aws: error: arguments %q", args)
	}
	expected[7] = args[7]
	if !slices.Equal(args, expected) {
		return fmt.Errorf("aws: error: arguments %q, not %q", args, expected)
	}
	parameters, err := readParameters(args[7])
	if err != nil {
		return err
	}
	delete(parameters, "localPortNumber")
	if !reflect.DeepEqual(parameters, map[string][]string{"host": {aurora.DefaultHost}, "portNumber": {"5432"}}) {
		return fmt.Errorf("aws: error: parameters %s", args[7])
	}
	return nil
}

// readParameters reads JSON, or the CLI's shorthand for a map of lists.
func readParameters(text string) (parameters map[string][]string, err error) {
	if strings.HasPrefix(text, "{") {
		err = json.Unmarshal([]byte(text), &parameters)
	} else {
		parameters = make(map[string][]string)
		for _, pair := range strings.Split(text, ",") {
			name, value, _ := strings.Cut(pair, "=")
			parameters[name] = []string{value}
		}
	}
	if err == nil && len(parameters["localPortNumber"]) != 1 {
		err = errors.New("aws: error: no localPortNumber")
	}
	return parameters, err
}

// bePlugin has the arguments of the real plugin.
func bePlugin(args []string) error {
	var input struct{ Parameters json.RawMessage }
	if err := json.Unmarshal([]byte(args[4]), &input); err != nil {
		return err
	}
	parameters, err := readParameters(string(input.Parameters))
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "\nStarting session with SessionId: dev-0123456789abcdef0")
	return forwardPort("session-manager-plugin", parameters["localPortNumber"][0])
}

// beBastion accepts -L PORT:HOST:PORT as ssh does, and an argument with a space.
func beBastion(args []string) error {
	port, rest, _ := strings.Cut(args[1], ":")
	if args[0] != "-L" || rest != aurora.DefaultHost+":5432" || args[2] != "a bastion" || len(args) != 3 {
		return fmt.Errorf("bastion: arguments %q", args)
	}
	return forwardPort("bastion", port)
}

// beSSH accepts the arguments of docs/forwarding.md.
func beSSH(args []string) error {
	const remote = ":" + aurora.DefaultHost + ":5432"
	port, _ := strings.CutSuffix(args[max(0, slices.Index(args, "-L"))+1], remote)
	bastion := []string{"-N", "-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=15", "-L", port + remote, "bastion"}
	instance := []string{"-N", "-o", "ExitOnForwardFailure=yes", "-o", "ProxyCommand=aws ec2-instance-connect open-tunnel --instance-id %h",
		"-L", port + remote, "ec2-user@" + instance}
	if !slices.Equal(args, bastion) && !slices.Equal(args, instance) {
		return fmt.Errorf("ssh: arguments %q", args)
	}
	return forwardPort("ssh", port)
}

// beKubectl accepts the arguments of docs/forwarding.md.
func beKubectl(args []string) error {
	port, found := strings.CutSuffix(args[len(args)-1], ":5432")
	if !found || !slices.Equal(args, []string{"port-forward", "--address", "127.0.0.1", "service/db-jump", port + ":5432"}) {
		return fmt.Errorf("kubectl: arguments %q", args)
	}
	return forwardPort("kubectl", port)
}

func forwardPort(name, port string) error {
	listen := listenAt
	if mode, _ := os.ReadFile(os.Getenv(forwardMode)); string(mode) == late {
		listen = listenLate
	}
	listener, err := listen(port)
	if err != nil {
		return err
	}
	if err := appear(name); err != nil {
		return err
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			return err
		}
		if mode, _ := os.ReadFile(os.Getenv(forwardMode)); string(mode) == barred {
			fmt.Fprintln(os.Stdout, notReached) // before the connection ends, at an unspecified time
			client.Close()
			continue
		}
		fmt.Fprintln(os.Stdout, "Connection accepted for session [dev-0123456789abcdef0]")
		server, err := net.Dial("tcp", os.Getenv(forwardTo))
		if err != nil {
			return err
		}
		go pipe(client, server)
	}
}

func listenAt(port string) (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:"+port) }

// lateness is longer than the time for which iamproxy retries a route that never worked.
const lateness = 11 * time.Second

// listenLate takes the port at once, so that no other process can, and listens later.
func listenLate(port string) (net.Listener, error) {
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close() // FileListener has a copy
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: number, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, err
	}
	time.Sleep(lateness)
	if err := syscall.Listen(fd, syscall.SOMAXCONN); err != nil {
		return nil, err
	}
	return net.FileListener(file)
}

// appear reports the name and process id to the witness, and stays connected until the
// process ends.
func appear(name string) error {
	if _, err := os.Open("/dev/tty"); err == nil {
		return errors.New("there is a terminal to ask at")
	}
	conn, err := net.Dial("unix", os.Getenv(forwardWitness))
	if err != nil {
		return err
	}
	appearance = conn
	_, err = fmt.Fprintln(conn, name, os.Getpid())
	return err
}

var appearance net.Conn // keeps the connection from being collected

// forwarders are those programs, in a directory for PATH.
type forwarders struct {
	dir     string
	own     []string // the environment of these programs
	env     []string // the same, and a key
	witness net.Listener

	mu    sync.Mutex
	alive map[string][]int // process ids by name
	seen  int
}

// startForwarders installs programs that forward to the cluster. ssm is the expected
// session.
func startForwarders(t *testing.T, cluster *aurora.Cluster, ssm string) *forwarders {
	t.Helper()
	f := &forwarders{dir: t.TempDir(), alive: make(map[string][]int)}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"aws", "session-manager-plugin", "bastion", "ssh", "kubectl"} {
		if err := os.Symlink(self, filepath.Join(f.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(f.dir, "witness")
	if f.witness, err = net.Listen("unix", socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.witness.Close() })
	go f.watch()
	f.own = []string{"PATH=" + f.dir + ":" + os.Getenv("PATH"), forwardWitness + "=" + socket,
		forwardTo + "=" + cluster.Addr(), forwardMode + "=" + f.mode(), forwardSSM + "=" + ssm}
	f.env = append(keyEnvironment(aurora.DefaultKey), f.own...)
	return f
}

func (f *forwarders) mode() string { return filepath.Join(f.dir, "mode") }

// behave sets the mode of programs that are started from now on.
func (f *forwarders) behave(t *testing.T, word string) {
	t.Helper()
	if err := os.WriteFile(f.mode(), []byte(word), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (f *forwarders) watch() {
	for {
		conn, err := f.witness.Accept()
		if err != nil {
			return
		}
		go f.see(conn)
	}
}

// see records a process until it ends.
func (f *forwarders) see(conn net.Conn) {
	defer conn.Close()
	var name string
	var pid int
	lines := bufio.NewReader(conn)
	if _, err := fmt.Fscanln(lines, &name, &pid); err != nil {
		return
	}
	f.mu.Lock()
	f.alive[name] = append(f.alive[name], pid)
	f.seen++
	f.mu.Unlock()
	_, _ = io.Copy(io.Discard, lines)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alive[name] = slices.DeleteFunc(f.alive[name], func(other int) bool { return other == pid })
}

// living returns the processes of a name, or all if it is empty.
func (f *forwarders) living(name string) (pids []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for of, some := range f.alive {
		if name == "" || name == of {
			pids = append(pids, some...)
		}
	}
	return pids
}

// kill ends the processes of a name.
func (f *forwarders) kill(name string) {
	for _, pid := range f.living(name) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
