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

// dsqlAdmin is the user of Aurora DSQL that needs the action DbConnectAdmin.
const dsqlAdmin = "admin"

// emptyPayload is the SHA-256 of an empty request body.
const emptyPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// signRDS returns a token for RDS and Aurora.
func signRDS(ctx context.Context, endpoint, region, user string, creds aws.Credentials) (string, error) {
	token, err := rdsauth.BuildAuthToken(ctx, endpoint, region, user, credentials.StaticCredentialsProvider{Value: creds})
	return withSlash(token), err
}

// withSlash returns the token in the form host:port/?Action=..., as the AWS CLI
// prints it. Some releases of the SDK omit the slash, and some AWS gateways refuse
// that form (aws-sdk-go-v2 #3365). The signature stays valid, since SigV4 treats
// an empty path as "/".
func withSlash(token string) string {
	before, query, found := strings.Cut(token, "?")
	if !found || strings.HasSuffix(before, "/") {
		return token
	}
	return before + "/?" + query
}

// signDSQL returns a token for Aurora DSQL, which contains neither port nor user.
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
