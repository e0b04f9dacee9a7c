package auth

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	rdsauth "github.com/aws/aws-sdk-go-v2/feature/rds/auth"
)

// dsqlAdmin is the one user of Aurora DSQL who needs an action of its own.
const dsqlAdmin = "admin"

// emptyPayload is the SHA-256 of nothing, which is what a GET request carries.
const emptyPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// signRDS makes a token of RDS and Aurora.
func signRDS(ctx context.Context, endpoint, region, user string, creds aws.Credentials) (string, error) {
	token, err := rdsauth.BuildAuthToken(ctx, endpoint, region, user, credentials.StaticCredentialsProvider{Value: creds})
	return withSlash(token), err
}

// withSlash puts the token in the form host:port/?Action=..., as the AWS CLI
// prints it. Some releases of the SDK leave the slash out, and some gateways of
// AWS refuse that form (aws-sdk-go-v2 #3365). The signature is the same: SigV4
// takes an empty path for "/".
func withSlash(token string) string {
	before, query, found := strings.Cut(token, "?")
	if !found || strings.HasSuffix(before, "/") {
		return token
	}
	return before + "/?" + query
}

// signDSQL makes a token of Aurora DSQL, which has neither port nor user in it.
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/SECTION_authentication-token.html
func signDSQL(ctx context.Context, endpoint, region, user string, creds aws.Credentials) (string, error) {
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		return "", err
	}
	query := url.Values{"Action": {dsqlAction(user)}, "X-Amz-Expires": {"900"}} // seconds
	request := &http.Request{
		Method: http.MethodGet,
		URL:    &url.URL{Scheme: "https", Host: host, Path: "/", RawQuery: query.Encode()},
		Header: http.Header{},
	}
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, creds, request, emptyPayload, "dsql", region, time.Now().UTC())
	return strings.TrimPrefix(signed, "https://"), err
}

func dsqlAction(user string) string {
	if user == dsqlAdmin {
		return "DbConnectAdmin"
	}
	return "DbConnect"
}
