// Package tofu names the version of OpenTofu that the tests of deploy/terraform run if the machine
// has neither OpenTofu nor Terraform. It is a module by itself, since OpenTofu needs other versions
// of libraries than the tests.
package tofu
