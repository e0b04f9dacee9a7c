package auth

import (
	"fmt"
	"regexp"
	"strings"
)

// rdsName matches the names that AWS gives RDS and Aurora endpoints: cluster,
// reader, custom and shard group endpoints, instances, RDS Proxy and its own
// further endpoints. The region stands before "rds", and in China's newer
// names behind it:
//
//	mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com
//	mydb.cabcdefghijk.rds.cn-north-1.amazonaws.com.cn
//
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Overview.Endpoints.html
// and, for China, https://docs.amazonaws.cn/en_us/aws/latest/userguide/endpoints-Beijing.html.
var rdsName = regexp.MustCompile(`^(?:[a-z0-9-]+\.){2,}(?:` +
	`(` + region + `)\.rds(?:-fips)?|` +
	`rds(?:-fips)?\.(` + region + `)` +
	`)\.(?:amazonaws\.(?:com|com\.cn|eu|au|uk)|c2s\.ic\.gov|sc2s\.sgov\.gov)$`)

var wholeRegion = regexp.MustCompile(`^` + region + `$`)

// IsRegion reports whether a name has the form of a region's.
func IsRegion(name string) bool { return wholeRegion.MatchString(name) }

const region = `[a-z]+(?:-[a-z]+)+-[0-9]+`

// Region reads the region from host, the lower-case name of a database. The
// error says that it must be given, and why the name does not have it.
func Region(host string) (string, error) {
	if m := rdsName.FindStringSubmatch(host); m != nil {
		return m[1] + m[2], nil
	}
	if strings.HasSuffix(strings.TrimSuffix(host, ".cn"), ".global.rds.amazonaws.com") {
		return "", fmt.Errorf("the global writer endpoint %s has no region in its name; add ?region= with the region of the primary cluster", host)
	}
	return "", fmt.Errorf("%s is not a name that RDS gives a database; use that name with your own in ?via=, or add ?region= to sign for this one as it stands", host)
}

// partition is the first word of the region's ARNs.
func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	case strings.HasPrefix(region, "eusc-"):
		return "aws-eusc"
	case strings.HasPrefix(region, "us-iso-"):
		return "aws-iso"
	case strings.HasPrefix(region, "us-isob-"):
		return "aws-iso-b"
	case strings.HasPrefix(region, "eu-isoe-"):
		return "aws-iso-e"
	case strings.HasPrefix(region, "us-isof-"):
		return "aws-iso-f"
	default:
		return "aws"
	}
}
