package fakeaws_test

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/iamproxy/iamproxy/test/fakeaws"
)

func TestFaults(t *testing.T) {
	a, _ := start(t)
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", a.URL()+"/container/")
	for name, test := range map[string]struct {
		fault     fakeaws.Fault
		sts       bool // answers as usual
		container bool
	}{
		"none":         {fakeaws.Fault{}, true, true},
		"500":          {fakeaws.Fault{Status: 500}, false, false},
		"garbage":      {fakeaws.Fault{Status: 200, Body: "\x00garbage"}, false, false},
		"cut":          {fakeaws.Fault{Cut: true}, false, false},
		"another":      {fakeaws.Fault{Status: 500, Only: fakeaws.IMDS}, true, true},
		"one of them":  {fakeaws.Fault{Cut: true, Only: fakeaws.Container}, true, false},
		"other of two": {fakeaws.Fault{Status: 429, Only: fakeaws.STS}, false, true},
		"late":         {fakeaws.Fault{Delay: time.Millisecond}, true, true},
		"late and bad": {fakeaws.Fault{Delay: time.Millisecond, Status: 503}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			a.SetFault(test.fault)
			if _, err := callerIdentity(jane); (err == nil) != test.sts {
				t.Errorf("STS: %v", err)
			}
			if _, err := retrieve(t, once); (err == nil) != test.container {
				t.Errorf("container: %v", err)
			}
		})
	}
	a.SetFault(fakeaws.Fault{})
	if _, err := callerIdentity(jane); err != nil {
		t.Errorf("after all: %v", err)
	}
}

func TestFaultIsTold(t *testing.T) {
	a, _ := start(t)
	a.SetFault(fakeaws.Fault{Status: 429, Body: "slow down"})
	if status, body := do(t, "GET", a.URL()+"/container/", nil); status != 429 || body != "slow down" {
		t.Errorf("%d, %q", status, body)
	}
	const delay = 50 * time.Millisecond
	a.SetFault(fakeaws.Fault{Delay: delay})
	began := time.Now()
	if status, _ := do(t, "GET", a.URL()+"/container/", nil); status != 200 || time.Since(began) < delay {
		t.Errorf("%d after %v", status, time.Since(began))
	}
	a.SetFault(fakeaws.Fault{Cut: true})
	if _, err := http.Get(a.URL() + "/container/"); !errors.Is(err, io.EOF) {
		t.Errorf("cut: %v", err)
	}
}

func TestCloseWhileItWaits(t *testing.T) {
	a, _ := start(t)
	a.SetFault(fakeaws.Fault{Delay: time.Hour})
	result := make(chan error, 1)
	go func() { _, err := callerIdentity(jane); result <- err }()
	for a.Requests(fakeaws.STS) == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; err == nil {
		t.Error("answered")
	}
}

func TestStartAndClose(t *testing.T) {
	var a fakeaws.AWS
	if err := a.Close(); err != nil || a.URL() != "" {
		t.Errorf("%v, %q", err, a.URL())
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err == nil {
		t.Error("started twice")
	}
	if status, _ := do(t, "GET", a.URL()+"/nowhere", nil); status != 404 {
		t.Errorf("no such service: %d", status)
	}
	// Issued may be nil.
	if status, _ := do(t, "GET", a.URL()+"/container/", nil); status != 200 {
		t.Errorf("without Issued: %d", status)
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}
