module github.com/iamproxy/iamproxy/deploy/image/check

go 1.26.0

require github.com/iamproxy/iamproxy v0.0.0

replace github.com/iamproxy/iamproxy => ../../..
