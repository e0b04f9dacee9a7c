package auth

import (
	"cmp"
	"strings"

	"github.com/iamproxy/iamproxy/internal/text"
)

// Kind is the kind of endpoint that a database's host name denotes.
type Kind string

// The kinds. Their values are shown to users.
const (
	Unknown    Kind = ""               // not a name that AWS assigns
	Cluster    Kind = "cluster"        // the cluster's current writer
	Reader     Kind = "reader"         // any of the cluster's readers
	Custom     Kind = "custom"         // any instance of a custom endpoint
	ShardGroup Kind = "shard group"    // Aurora Limitless
	Instance   Kind = "instance"       // a single instance
	RDSProxy   Kind = "RDS Proxy"      // also its additional endpoints
	Global     Kind = "global cluster" // the writer of the primary cluster
	DSQL       Kind = "Aurora DSQL"    // a cluster or its private endpoint
)

// Name holds the parts of a database's host name.
type Name struct {
	Kind   Kind
	Region string // empty if the name has none
}

// rdsName matches the host names of RDS and Aurora. The region is before "rds", or
// after it in newer names in China and in some isolated partitions. A global writer
// endpoint has none. The label before it determines the kind:
//
//	mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com
//	mydb.cabcdefghijk.rds.cn-north-1.amazonaws.com.cn
//
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Overview.Endpoints.html
// and, for China, https://docs.amazonaws.cn/en_us/aws/latest/userguide/endpoints-Beijing.html.
var rdsName = text.Regexp(`^(?:[a-z0-9-]+\.)+([a-z0-9-]+)\.(?:` +
	`(` + region + `|global)\.rds(?:-fips)?|` +
	`rds(?:-fips)?\.(` + region + `)` +
	`)\.(?:amazonaws\.(?:com|com\.cn|eu|au|uk)|c2s\.ic\.gov|sc2s\.sgov\.gov)$`)

// dsqlName matches the host names of Aurora DSQL: those of clusters and of their
// PrivateLink endpoints.
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/privatelink-managing-clusters.html
var dsqlName = text.Regexp(`^[a-z0-9]{26}\.dsql(?:-[a-z0-9]+)?\.(` + region + `)\.on\.(?:aws|amazonwebservices\.com\.cn)$`)

const region = `[a-z]+(?:-[a-z]+)+-[0-9]+`

// IsRegion reports whether a name has the form of an AWS region.
var IsRegion = text.Matching(`^` + region + `$`)

// kindPrefixes maps the prefixes of the label that determines the kind. The longer
// ones come first. Other labels are those of instances.
var kindPrefixes = []struct {
	prefix string
	kind   Kind
}{
	{"cluster-ro-", Reader},
	{"cluster-custom-", Custom},
	{"cluster-", Cluster},
	{"shardgrp-", ShardGroup},
	{"proxy-", RDSProxy},
	{"global-", Global},
}

// ParseName parses the lower-case host name of a database. A name that AWS does not
// assign has the kind Unknown.
func ParseName(host string) Name {
	if m := dsqlName().FindStringSubmatch(host); m != nil {
		return Name{Kind: DSQL, Region: m[1]}
	}
	m := rdsName().FindStringSubmatch(host)
	if m == nil {
		return Name{}
	}
	name := Name{Kind: Instance, Region: cmp.Or(m[2], m[3])}
	for _, k := range kindPrefixes {
		if strings.HasPrefix(m[1], k.prefix) {
			name.Kind = k.kind
			break
		}
	}
	switch isGlobal := name.Region == "global"; {
	case isGlobal != (name.Kind == Global):
		return Name{}
	case isGlobal:
		name.Region = ""
	}
	return name
}

// NeedsRegion returns the error of a host whose region must be configured.
func (n Name) NeedsRegion(host string) error {
	if n.Kind == Global {
		return newError(ReasonGlobalRegionRequired, nil, "{host}", host)
	}
	return newError(ReasonRegionRequired, nil, "{host}", host)
}

// Partition returns the partition of a region, the second part of its ARNs.
func Partition(region string) string {
	for prefix, partition := range partitions {
		if strings.HasPrefix(region, prefix) {
			return partition
		}
	}
	return "aws"
}

// partitions maps prefixes of regions to partitions other than "aws".
var partitions = map[string]string{
	"cn-":      "aws-cn",
	"us-gov-":  "aws-us-gov",
	"eusc-":    "aws-eusc",
	"us-iso-":  "aws-iso",
	"us-isob-": "aws-iso-b",
	"eu-isoe-": "aws-iso-e",
	"us-isof-": "aws-iso-f",
}
