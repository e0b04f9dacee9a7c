package awsapi

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go/auth"
	smithyendpoints "github.com/aws/smithy-go/endpoints"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// regions has regions of all partitions.
var regions = []string{
	"us-east-1", "us-west-2", "eu-west-1", "eu-central-2", "ap-southeast-7", "ca-west-1", "il-central-1", "mx-central-1",
	"xx-new-1", "cn-north-1", "cn-northwest-1", "us-gov-east-1", "us-gov-west-1", "eusc-de-east-1", "us-iso-east-1", "us-iso-west-1",
	"us-isob-east-1", "eu-isoe-west-1", "us-isof-south-1", "us-isof-east-1",
}

// The endpoints are those of the SDK's clients.
func TestHost(t *testing.T) {
	for _, region := range regions {
		for _, fips := range []bool{false, true} {
			for _, dualStack := range []bool{false, true} {
				for _, test := range []struct {
					service Service
					resolve func() (smithyendpoints.Endpoint, error)
				}{
					{RDS, func() (smithyendpoints.Endpoint, error) {
						return rds.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(),
							rds.EndpointParameters{Region: &region, UseFIPS: &fips, UseDualStack: &dualStack})
					}},
					{IAM, func() (smithyendpoints.Endpoint, error) {
						return iam.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(),
							iam.EndpointParameters{Region: &region, UseFIPS: &fips, UseDualStack: &dualStack})
					}},
					{SecretsManager, func() (smithyendpoints.Endpoint, error) {
						return secretsmanager.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(),
							secretsmanager.EndpointParameters{Region: &region, UseFIPS: &fips, UseDualStack: &dualStack})
					}},
					{SSM, func() (smithyendpoints.Endpoint, error) {
						return ssm.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(),
							ssm.EndpointParameters{Region: &region, UseFIPS: &fips, UseDualStack: &dualStack})
					}},
				} {
					endpoint, err := test.resolve()
					if err != nil {
						t.Fatal(err)
					}
					wantRegion := region
					if options, ok := auth.GetAuthOptions(&endpoint.Properties); ok {
						wantRegion, _ = smithyhttp.GetSigV4SigningRegion(&options[0].SignerProperties)
					}
					host, signingRegion := test.service.host(region, fips, dualStack)
					if host != endpoint.URI.Host || signingRegion != wantRegion {
						t.Errorf("%s in %s, FIPS %v, dual stack %v: %s signed for %s, want %s signed for %s",
							test.service.id, region, fips, dualStack, host, signingRegion, endpoint.URI.Host, wantRegion)
					}
				}
			}
		}
	}
}
