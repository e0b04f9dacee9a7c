package main

import (
	"github.com/iamproxy/iamproxy/internal/cli"
)

// versionFlag is --version.
type versionFlag bool

// IgnoreDefault makes kong not choose the default command.
func (versionFlag) IgnoreDefault() {}

// BeforeReset prints the version, before the command line is checked.
func (versionFlag) BeforeReset(parser *cli.Parser, std streams) error {
	if err := (versionCommand{}).Run(std); err != nil {
		return err
	}
	parser.Exit(0)
	return nil
}

type helpCommand struct {
	Command string `arg:"" optional:"" form:"command" help:"The command."`
}

// Run prints help on standard output.
func (c *helpCommand) Run(parser *cli.Parser) error {
	command, err := parser.Find(c.Command)
	if err != nil {
		return usageError{err}
	}
	return parser.PrintHelp(command)
}

type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run prints the script on standard output.
func (c *completionCommand) Run(parser *cli.Parser) error { return parser.PrintCompletion(c.Shell) }

type manCommand struct{}

// Run prints the manual page on standard output.
func (manCommand) Run(parser *cli.Parser) error {
	version, _ := buildInfo()
	return parser.PrintManual(version)
}
