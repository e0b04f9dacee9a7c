package awsapi

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/aws/aws-sdk-go-v2/aws"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/iamproxy/iamproxy/auth"
)

// endpoint returns the URL of the service and the region of the signature.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-endpoints.html
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html
func (c *Client) endpoint() (_ *url.URL, signingRegion string, _ error) {
	region := c.options.Region
	fips := c.options.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled
	dualStack := c.options.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled
	if configured := auth.EndpointURL(c.config, c.service.id); configured != "" {
		base, err := url.Parse(configured)
		switch {
		case err != nil:
			return nil, "", err
		case fips:
			return nil, "", errors.New("a FIPS endpoint and an endpoint URL are both configured")
		case dualStack:
			return nil, "", errors.New("a dual-stack endpoint and an endpoint URL are both configured")
		}
		return &url.URL{Scheme: base.Scheme, Host: base.Host, Path: smithyhttp.JoinPath(base.Path, "/")}, region, nil
	}
	if region == "" {
		return nil, "", errors.New("no region is configured")
	}
	host, signingRegion := c.service.host(region, fips, dualStack)
	base, err := url.Parse("https://" + host + "/")
	if err != nil || base.Host != host {
		return nil, "", fmt.Errorf("invalid region %q", region)
	}
	return base, signingRegion, nil
}

// partition describes the endpoints of a partition.
type partition struct {
	domain, dualStack string // the domains of the hosts
	iamRegion         string // the region of signatures for IAM
	// iam has the labels of IAM's hosts in front of the domain: the standard endpoint,
	// with FIPS, with dual stack, and with both.
	iam [4]string
}

// partitions has the partitions by name. The SDK's rules are in its clients, and a test
// compares the endpoints with them.
var partitions = map[string]partition{
	"aws":        {"amazonaws.com", "api.aws", "us-east-1", [4]string{"iam", "iam-fips", "iam.global", "iam-fips.global"}},
	"aws-cn":     {"amazonaws.com.cn", "api.amazonwebservices.com.cn", "cn-north-1", [4]string{"iam.cn-north-1", "iam-fips", "iam.global", "iam-fips"}},
	"aws-us-gov": {"amazonaws.com", "api.aws", "us-gov-west-1", [4]string{"iam.us-gov", "iam.us-gov", "iam.us-gov", "iam.us-gov"}},
	"aws-eusc":   {"amazonaws.eu", "api.amazonwebservices.eu", "eusc-de-east-1", [4]string{"iam.eusc-de-east-1", "iam-fips", "iam.global", "iam-fips"}},
	"aws-iso":    {"c2s.ic.gov", "api.aws.ic.gov", "us-iso-east-1", [4]string{"iam.us-iso-east-1", "iam-fips.us-iso-east-1", "iam", "iam-fips"}},
	"aws-iso-b":  {"sc2s.sgov.gov", "api.aws.scloud", "us-isob-east-1", [4]string{"iam.us-isob-east-1", "iam-fips.us-isob-east-1", "iam", "iam-fips"}},
	"aws-iso-e":  {"cloud.adc-e.uk", "api.cloud-aws.adc-e.uk", "eu-isoe-west-1", [4]string{"iam.eu-isoe-west-1", "iam-fips", "iam", "iam-fips"}},
	"aws-iso-f":  {"csp.hci.ic.gov", "api.aws.hci.ic.gov", "us-isof-south-1", [4]string{"iam.us-isof-south-1", "iam-fips", "iam", "iam-fips"}},
}

// host returns the host of the service and the region of the signature. IAM has one endpoint
// for each partition, the other services have one for each region.
func (s Service) host(region string, fips, dualStack bool) (host, signingRegion string) {
	name := auth.Partition(region)
	p := partitions[name]
	china, govCloud := name == "aws-cn", name == "aws-us-gov"
	label, signingRegion := s.name, region
	switch {
	case s.name == IAM.name:
		n := 0
		if fips {
			n++
		}
		if dualStack {
			n += 2
		}
		label, signingRegion = p.iam[n], p.iamRegion
	case (s.name == RDS.name || s.name == SSM.name) && govCloud && !dualStack:
		label += "." + region // it always has FIPS
	case fips:
		label += "-fips." + region
	default:
		label += "." + region
	}
	if s.name == SecretsManager.name && (name == "aws" || govCloud || china && !fips) {
		dualStack = false // the standard endpoint is a dual-stack endpoint
	}
	if dualStack {
		return label + "." + p.dualStack, signingRegion
	}
	return label + "." + p.domain, signingRegion
}
