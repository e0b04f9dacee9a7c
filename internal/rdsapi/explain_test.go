package rdsapi

import (
	"strings"
	"testing"
)

func FuzzSecret(f *testing.F) {
	f.Add(`{"username":"u","password":"p"}`)
	f.Add(`{"username":1}`)
	f.Add("x")
	f.Fuzz(func(t *testing.T, text string) {
		login, err := parseLogin("id", text)
		if (err == nil) != (login.User != "" && login.Password != "") {
			t.Errorf("%+v, %v", login, err)
		}
		if err != nil && len(text) > 80 && strings.Contains(err.Error(), text) {
			t.Errorf("the error quotes it: %v", err)
		}
	})
}
