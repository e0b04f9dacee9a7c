package auth

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	"go.uber.org/zap"
)

const (
	// roleSession is how CloudTrail and the ARN of the caller name a session of
	// an assumed role that nobody has named.
	roleSessionName = "iamproxy"
	// roleLife is what every role allows, and what a role that assumes another
	// may ask for at the most. The SDK's default is 15 minutes, which is no more
	// than one token's.
	// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use.html
	roleDuration = time.Hour
	// requestTimeout bounds one request. The SDK has no limit of its own for most
	// of them, and waits for the first one when it is asked again.
	requestTimeout = 10 * time.Second
	// idleTime is how long a connection is kept for the next request, which comes within
	// seconds or in ten minutes.
	idleTimeout = 5 * time.Second
	// longestBackOff is the most that the SDK waits before it repeats a request that has
	// failed. Its own 20 s would go on when the other side has long recovered.
	maxBackoff = time.Second
)

// roleARN is the form of a role's ARN, with or without a path in it. A comma at the
// end is taken for one between two.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
var roleARN = regexp.MustCompile(`^arn:[a-z0-9-]+:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]*[A-Za-z0-9_+=.@-]$`)

// Load finds the source. The error tells of a configuration that cannot be read,
// a profile that is not in it, or a role that has no ARN. A source that gives no
// credentials is an *Error later.
func (i *Identity) Load(ctx context.Context) error {
	for _, role := range i.Roles {
		if !roleARN.MatchString(role) {
			return newError(ReasonInvalidRole, nil, "{role}", strconv.Quote(role))
		}
	}
	files := statFiles() // before they are read
	chain, err := i.load(ctx)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.source, i.files, i.filesCheckedAt = chain, files, wallClock()
	return nil
}

// reload takes note of files that have changed. If they cannot be read now, as
// when they are being written, the old source stays.
func (i *Identity) reload(ctx context.Context) {
	if _, ok := i.loaded().(*chain); !ok {
		return
	}
	chain, err := i.load(ctx)
	if err != nil {
		i.log().Warn("AWS configuration not read again; the old one stays", zap.Error(err))
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.source = chain
}

// chain is the SDK's chain of sources, with the roles on top.
type chain struct {
	cfg  aws.Config
	base aws.CredentialsProvider // below Identity.Roles; nil if there are none
}

func (c *chain) fetch(ctx context.Context) (aws.Credentials, error) {
	if cache, ok := c.cfg.Credentials.(interface{ Invalidate() }); ok {
		cache.Invalidate()
	}
	return c.cfg.Credentials.Retrieve(ctx)
}

func (i *Identity) load(ctx context.Context) (*chain, error) {
	client := awshttp.NewBuildableClient().WithTimeout(requestTimeout).WithTransportOptions(setIdleTimeout)
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithHTTPClient(client),
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = hedged{client} }),
		config.WithRetryer(newRetryer),
		config.WithLogger(logging.LoggerFunc(i.logSDK)),
		config.WithSharedConfigProfile(i.Profile),
		config.WithDefaultRegion(i.Region),
		config.WithAPIOptions([]func(*middleware.Stack) error{i.watchClock}),
		config.WithCredentialsCacheOptions(i.cacheOptions),
		config.WithAssumeRoleCredentialOptions(roleDefaults),
		config.WithWebIdentityRoleCredentialOptions(webIdentityDefaults))
	if err != nil {
		return nil, loadError(err)
	}
	var base aws.CredentialsProvider
	for n, role := range i.Roles {
		if n == 0 {
			base = cfg.Credentials
		}
		cfg.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), role, roleDefaults, func(o *stscreds.AssumeRoleOptions) {
			if n == len(i.Roles)-1 && i.ExternalID != "" {
				o.ExternalID = &i.ExternalID
			}
		}))
	}
	return &chain{cfg, base}, nil
}

func setIdleTimeout(t *http.Transport) { t.IdleConnTimeout = idleTimeout }

func newRetryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = maxBackoff })
}

// cacheOptions has credentials told to expire when they do: the SDK would take
// off five minutes from those of containers, and we would reckon with too little.
// Where they only serve to assume one of Roles, they have to last for the request.
func (i *Identity) cacheOptions(o *aws.CredentialsCacheOptions) {
	o.ExpiryWindow = 0
	if len(i.Roles) > 0 {
		o.ExpiryWindow = expiryMargin
	}
}

// logSDK has what the SDK wants to say, such as that a host has IMDSv1 only, in
// the log's own form.
func (i *Identity) logSDK(_ logging.Classification, format string, v ...any) {
	i.log().Debug("AWS SDK: " + fmt.Sprintf(format, v...))
}

func roleDefaults(o *stscreds.AssumeRoleOptions) {
	if o.RoleSessionName == "" {
		o.RoleSessionName = roleSessionName
	}
	if o.Duration == 0 {
		o.Duration = roleDuration
	}
}

func webIdentityDefaults(o *stscreds.WebIdentityRoleOptions) {
	if o.RoleSessionName == "" {
		o.RoleSessionName = roleSessionName
	}
}

// files is what is known without reading of the files that the SDK reads once.
// Those with tokens (SSO, web identity, containers) it reads each time.
type files [2]struct {
	size     int64
	modified time.Time
}

func statFiles() (seen files) {
	for n, name := range []string{
		orDefault(os.Getenv("AWS_CONFIG_FILE"), config.DefaultSharedConfigFilename),
		orDefault(os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), config.DefaultSharedCredentialsFilename),
	} {
		if info, err := os.Stat(name); err == nil { //nolint:gosec // whoever starts us names them, as for the SDK
			seen[n].size, seen[n].modified = info.Size(), info.ModTime()
		}
	}
	return seen
}

func orDefault(text string, otherwise func() string) string {
	if text != "" {
		return text
	}
	return otherwise()
}
