package auth

import (
	"cmp"
	"regexp"
	"strings"
)

// Kind is what a database's name says that it leads to.
type Kind string

// The kinds. The words are for people.
const (
	Unknown    Kind = ""               // AWS gives no such name
	Cluster    Kind = "cluster"        // the cluster's writer, whichever instance that is
	Reader     Kind = "reader"         // any of the cluster's readers
	Custom     Kind = "custom"         // any of some instances
	ShardGroup Kind = "shard group"    // of Aurora Limitless
	Instance   Kind = "instance"       // always the same one
	RDSProxy   Kind = "RDS Proxy"      // also its further endpoints
	Global     Kind = "global cluster" // the writer of its primary cluster
	DSQL       Kind = "Aurora DSQL"    // a cluster of it, or its private endpoint
)

// Name is what can be read from the name that AWS gave a database.
type Name struct {
	Kind   Kind
	Region string // empty if the name has none
}

// rdsName matches the names of RDS and Aurora. The region stands before "rds",
// in China's newer names and in some isolated partitions behind it, and not at
// all in that of a global writer endpoint. What stands before tells the kind:
//
//	mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com
//	mydb.cabcdefghijk.rds.cn-north-1.amazonaws.com.cn
//
// https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/Aurora.Overview.Endpoints.html
// and, for China, https://docs.amazonaws.cn/en_us/aws/latest/userguide/endpoints-Beijing.html.
var rdsName = regexp.MustCompile(`^(?:[a-z0-9-]+\.)+([a-z0-9-]+)\.(?:` +
	`(` + region + `|global)\.rds(?:-fips)?|` +
	`rds(?:-fips)?\.(` + region + `)` +
	`)\.(?:amazonaws\.(?:com|com\.cn|eu|au|uk)|c2s\.ic\.gov|sc2s\.sgov\.gov)$`)

// dsqlName matches the names of Aurora DSQL: a cluster's own, and that of its
// endpoint in a private network.
// https://docs.aws.amazon.com/aurora-dsql/latest/userguide/privatelink-managing-clusters.html
var dsqlName = regexp.MustCompile(`^[a-z0-9]{26}\.dsql(?:-[a-z0-9]+)?\.(` + region + `)\.on\.(?:aws|amazonwebservices\.com\.cn)$`)

const region = `[a-z]+(?:-[a-z]+)+-[0-9]+`

var wholeRegion = regexp.MustCompile(`^` + region + `$`)

// IsRegion reports whether a name has the form of a region's.
func IsRegion(name string) bool { return wholeRegion.MatchString(name) }

// kinds are the beginnings of a name's label that tell it from an instance's:
// the longer ones first.
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

// ParseName reads a database's lower-case name. A name that AWS does not give
// is of the kind Unknown.
func ParseName(host string) Name {
	if m := dsqlName.FindStringSubmatch(host); m != nil {
		return Name{Kind: DSQL, Region: m[1]}
	}
	m := rdsName.FindStringSubmatch(host)
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
