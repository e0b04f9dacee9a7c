module github.com/iamproxy/iamproxy/deploy/systemd/check

go 1.26.0
