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

// partition is the second word of the region's ARNs.
func partition(region string) string {
	for prefix, partition := range partitions {
		if strings.HasPrefix(region, prefix) {
			return partition
		}
	}
	return "aws"
}

// partitions are those with regions of their own, by the beginnings of these.
var partitions = map[string]string{
	"cn-":      "aws-cn",
	"us-gov-":  "aws-us-gov",
	"eusc-":    "aws-eusc",
	"us-iso-":  "aws-iso",
	"us-isob-": "aws-iso-b",
	"eu-isoe-": "aws-iso-e",
	"us-isof-": "aws-iso-f",
}
