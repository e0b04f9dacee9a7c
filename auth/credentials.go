package auth

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
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

	"github.com/iamproxy/iamproxy/internal/text"
)

const (
	// roleSessionName is the default name of an assumed role's session. CloudTrail
	// and the caller's ARN show it.
	roleSessionName = "iamproxy"
	// roleDuration is the default duration of an assumed role's session. Every role
	// allows it, and role chaining allows no more. The SDK's default of 15 minutes is
	// only the life of one token.
	// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use.html
	roleDuration = time.Hour
	// requestTimeout limits one request to AWS. The SDK does not limit most of them,
	// and has later calls wait for the first.
	requestTimeout = 10 * time.Second
	// idleTimeout is how long an idle connection to AWS is kept. The next request
	// follows within seconds or after ten minutes.
	idleTimeout = 5 * time.Second
	// maxBackoff limits the delay before the SDK repeats a failed request. Its
	// default of 20 s would delay logins after the service has recovered.
	maxBackoff = time.Second
)

// isRoleARN reports whether text is the ARN of a role, with or without a path. A comma at the
// end is not part of it, since it separates two ARNs.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
var isRoleARN = text.Matching(`^arn:[a-z0-9-]+:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]*[A-Za-z0-9_+=.@-]$`)

// Load reads the AWS configuration. It fails if the configuration cannot be read,
// does not have the profile, or has a role that is not an ARN. It does not fetch
// credentials.
func (i *Identity) Load(ctx context.Context) error {
	for _, role := range i.Roles {
		if !isRoleARN(role) {
			return newError(ReasonInvalidRole, nil, "{role}", strconv.Quote(role))
		}
	}
	files := statFiles() // before reading them, so that no change is missed
	var loaded source
	loaded, err := i.load(ctx)
	switch {
	case isTemporary(err):
		loaded = unloaded{i}
	case err != nil:
		return err
	}
	shared := readSharedFiles()
	if problems, remedies := shared.problems(); problems != "" {
		i.log().Warn("a file of the AWS configuration is not used", zap.String("problem", problems), zap.String("hint", remedies))
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.source, i.files, i.filesCheckedAt = loaded, files, wallClock()
	return nil
}

// reload reads the AWS configuration again. If it cannot be read, for example while
// it is being written, the old source stays in use.
func (i *Identity) reload(ctx context.Context) {
	if _, ok := i.loaded().(*chain); !ok {
		return
	}
	chain, err := i.load(ctx)
	if err != nil {
		i.log().Warn("could not reload the AWS configuration; keeping the previous one", zap.Error(err))
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.source = chain
}

// chain is the SDK's credential chain, followed by Identity.Roles.
type chain struct {
	cfg  aws.Config
	base aws.CredentialsProvider // assumes the first of Identity.Roles; nil without roles
	// process is the source of the credentials, or nil.
	process *process
}

// timeout returns the limit of one fetch.
func (c *chain) timeout() time.Duration {
	if c.process != nil {
		return processTimeout + fetchTimeout
	}
	return fetchTimeout
}

func (c *chain) fetch(ctx context.Context) (aws.Credentials, error) {
	if cache, ok := c.cfg.Credentials.(interface{ Invalidate() }); ok {
		cache.Invalidate()
	}
	return c.cfg.Credentials.Retrieve(ctx)
}

func (i *Identity) load(ctx context.Context) (*chain, error) {
	files := readSharedFiles()
	if err := i.checkSettings(&files); err != nil {
		return nil, err
	}
	bundle, err := i.caBundle(&files)
	if err != nil {
		return nil, err
	}
	configFiles, releaseConfig := files.config.forSDK()
	defer releaseConfig()
	credentialsFiles, releaseCredentials := files.credentials.forSDK()
	defer releaseCredentials()
	urls := new(endpoints)
	client := awshttp.NewBuildableClient().WithTimeout(requestTimeout).WithTransportOptions(setIdleTimeout)
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(client),
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = hedged{client} }),
		config.WithRetryer(newRetryer),
		config.WithLogger(logging.LoggerFunc(i.logSDK)),
		config.WithSharedConfigFiles(configFiles),
		config.WithSharedCredentialsFiles(credentialsFiles),
		config.WithSharedConfigProfile(i.Profile),
		config.WithDefaultRegion(i.Region),
		config.WithAPIOptions([]func(*middleware.Stack) error{i.watchClock, urls.apply}),
		config.WithCredentialsCacheOptions(i.cacheOptions),
		config.WithAssumeRoleCredentialOptions(i.roleDefaults),
		config.WithWebIdentityRoleCredentialOptions(webIdentityDefaults),
	}
	if bundle != nil {
		options = append(options, config.WithCustomCABundle(bytes.NewReader(bundle)))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, i.loadError(&files, err)
	}
	if files.lackProfile(i.profile()) {
		// The SDK does not report it if AWS_DEFAULT_PROFILE names the profile.
		return nil, i.loadError(&files, config.SharedConfigProfileNotExistError{Profile: i.profile()})
	}
	process := i.replaceSource(&cfg, &files)
	urls.cfg = cfg
	if err := urls.check(); err != nil {
		return nil, err
	}
	var base aws.CredentialsProvider
	for n, role := range i.Roles {
		if n == 0 {
			base = cfg.Credentials
		}
		cfg.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), role, i.roleDefaults, func(o *stscreds.AssumeRoleOptions) {
			if n == len(i.Roles)-1 && i.ExternalID != "" {
				o.ExternalID = &i.ExternalID
			}
		}))
	}
	return &chain{cfg, base, process}, nil
}

func setIdleTimeout(t *http.Transport) { t.IdleConnTimeout = idleTimeout }

func newRetryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = maxBackoff })
}

// cacheOptions makes the SDK report the real expiry of credentials: for those of
// containers it would subtract five minutes. Credentials that only assume one of
// Roles must outlive that request.
func (i *Identity) cacheOptions(o *aws.CredentialsCacheOptions) {
	o.ExpiryWindow = 0
	if len(i.Roles) > 0 {
		o.ExpiryWindow = expiryMargin
	}
}

// logSDK logs messages of the SDK.
func (i *Identity) logSDK(_ logging.Classification, format string, v ...any) {
	i.log().Debug("AWS SDK: " + fmt.Sprintf(format, v...))
}

func (i *Identity) roleDefaults(o *stscreds.AssumeRoleOptions) {
	o.Client = shortened{o.Client, i.log()}
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

// files holds the sizes and modification times of the files that the SDK reads only
// once. It reads the files with tokens (SSO, web identity, containers) each time.
type files [2]struct {
	size     int64
	modified time.Time
}

func statFiles() (seen files) {
	configPath, credentialsPath := sharedFilePaths()
	for n, name := range []string{configPath, credentialsPath} {
		if info, err := os.Stat(name); err == nil {
			seen[n].size, seen[n].modified = info.Size(), info.ModTime()
		}
	}
	return seen
}
