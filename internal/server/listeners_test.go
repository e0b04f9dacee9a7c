package server

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/iamproxy/iamproxy/internal/endpoint"
	"github.com/iamproxy/iamproxy/internal/listen"
	"github.com/iamproxy/iamproxy/test/conntest"
)

func TestParseAddrs(t *testing.T) {
	for _, test := range []struct {
		first string
		keys  []string // listen= of each endpoint
		want  string
	}{
		{"127.0.0.1:5432", []string{"", "[::1]:7000", "", ""}, "tcp 127.0.0.1:5432, tcp [::1]:7000, tcp 127.0.0.1:5433, tcp 127.0.0.1:5434"},
		{"127.0.0.1:0", []string{"", ""}, "tcp 127.0.0.1:0, tcp 127.0.0.1:0"}, // any free port for each
		{"unix:/run/db", []string{"", "", "127.0.0.1:1"}, "unix /run/db/.s.PGSQL.5432, unix /run/db/.s.PGSQL.5433, tcp 127.0.0.1:1"},
		{"unix:/run/db/.s.PGSQL.6000", []string{"", "", "unix:/run/other/"}, "unix /run/db/.s.PGSQL.6000, unix /run/db/.s.PGSQL.6001, unix /run/other/.s.PGSQL.5432"},
		{"localhost", []string{"", ""}, "tcp localhost:5432, tcp localhost:5433"},
		{"unix:relative", []string{""}, "unix relative/.s.PGSQL.5432"},
	} {
		endpoints := make([]endpoint.Endpoint, len(test.keys))
		for i, key := range test.keys {
			endpoints[i].Listen = key
		}
		addrs, err := ParseAddrs(endpoints, test.first)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, addr := range slices.Concat(addrs...) {
			got = append(got, addr.Network()+" "+filepath.ToSlash(addr.String()))
		}
		if text := strings.Join(got, ", "); text != test.want {
			t.Errorf("--listen %s: got %s, want %s", test.first, text, test.want)
		}
	}
}

func openListeners(t *testing.T, addresses ...string) (listeners, error) {
	t.Helper()
	s := &Server{Log: zap.NewNop()}
	for _, address := range addresses {
		addr, err := listen.ParseAddr(address)
		if err != nil {
			t.Fatal(err)
		}
		s.Addrs = append(s.Addrs, []listen.Addr{addr})
		s.Endpoints = append(s.Endpoints, endpoint.Endpoint{Host: "db.example"})
	}
	return s.listen(t.Context())
}

// If a listener cannot be opened, those before it are closed.
func TestListenAllOrNone(t *testing.T) {
	address := conntest.FreeAddress(t)
	if _, err := openListeners(t, address, address); err == nil {
		t.Fatal("two listeners at one address")
	}
	all, err := openListeners(t, address)
	if err != nil {
		t.Fatal(err)
	}
	all.close()
}
