package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/iamproxy/iamproxy/internal/console"
	"github.com/iamproxy/iamproxy/internal/endpoint"
	"github.com/iamproxy/iamproxy/internal/logging"
	"github.com/iamproxy/iamproxy/internal/peercred"
	"github.com/iamproxy/iamproxy/internal/server"
)

// serveFlags are the flags of all commands that start a server.
type serveFlags struct {
	Endpoints []string `arg:"" name:"endpoint" form:"endpoint" env:"IAMPROXY_ENDPOINTS" optional:"" help:"The databases. The first is served at --listen, each further one at the next port."`

	User string `form:"user" group:"Identity" help:"Database user to log in as. Default: the client's." placeholder:"USER"`
	credentialFlags
	connectFlags
	Database       string        `form:"name" group:"Connect" help:"Database to log in to. Default: the client's." placeholder:"NAME"`
	Target         string        `enum:",writer,any" default:"" group:"Connect" help:"writer: connect only to an instance that accepts writes; after a failover, retry until --connect-timeout. any: connect to any instance. Default: writer for cluster endpoints, else any." placeholder:"WHICH"`
	ConnectTimeout time.Duration `group:"Connect" help:"Timeout from a client's startup packet to its session. Default: 30s." default:"30s" placeholder:"DURATION"`
	ConnectRate    float64       `group:"Limits" help:"Maximum number of new logins per second for each endpoint; more are queued. AWS accepts about 200. 0 is no limit. Default: 150." default:"150" placeholder:"N"`
	Pool           int           `group:"Limits" help:"Maximum number of idle connections for each endpoint, reused by clients with the same user, database and startup parameters after DISCARD ALL. Default: 0, which is off." default:"0" placeholder:"N"`
	MaxSessions    int           `group:"Limits" help:"Maximum number of clients at once, for all endpoints together. Default: what the limit of open files allows." default:"0" placeholder:"N"`
}

// parse returns the configuration that the flags describe.
func (f *serveFlags) parse(ctx context.Context, allowUser []string) (config server.Config, err error) {
	config = server.Config{CAFile: f.CAFile, ConnectTimeout: f.ConnectTimeout, ConnectRate: f.ConnectRate, MaxSessions: f.MaxSessions}
	if config.Endpoints, err = f.parseEndpoints(ctx); err != nil {
		return config, err
	}
	if config.AllowUser, err = peercred.ParseUsers(allowUser); err != nil {
		return config, err
	}
	switch {
	case f.ConnectTimeout <= 0:
		return config, fmt.Errorf("--connect-timeout %s: must be positive", f.ConnectTimeout)
	case f.ConnectRate < 0 || math.IsNaN(f.ConnectRate):
		return config, fmt.Errorf("--connect-rate %v: must not be negative (0 is no limit)", f.ConnectRate)
	case f.MaxSessions < 0:
		return config, fmt.Errorf("--max-sessions %d: must not be negative (0 is no limit)", f.MaxSessions)
	}
	return config, nil
}

// parseEndpoints parses the endpoints, and completes them from the flags.
func (f *serveFlags) parseEndpoints(ctx context.Context) ([]endpoint.Endpoint, error) {
	flags := f.flags()
	flags.User, flags.Database, flags.Via, flags.Target = f.User, f.Database, f.Via, f.Target
	flags.Pool = strconv.Itoa(f.Pool)
	endpoints, err := endpoint.ParseAll(ctx, f.Endpoints, flags)
	if err == nil && len(endpoints) == 0 {
		err = errors.New("no ENDPOINT given, and IAMPROXY_ENDPOINTS is not set: the database's name in AWS, for example: iamproxy mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com; see iamproxy --help")
	}
	return endpoints, err
}

// consoleFormat returns the format of the log for the console, or nil for JSON. format is that of
// --log-format.
func consoleFormat(format string, out io.Writer, endpoints int) *logging.Console {
	if format == "json" || format == "" && !console.IsTerminal(out) {
		return nil
	}
	return &logging.Console{Colors: console.SupportsColors(out), Listeners: endpoints > 1}
}
