package auth

import (
	"strings"
	"testing"

	"github.com/iamproxy/iamproxy/internal/text"
)

func TestParseName(t *testing.T) {
	for host, want := range map[string]Name{
		"mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com":                 {Cluster, "eu-west-1"},
		"mydb.cluster-ro-cabcdefghijk.ap-southeast-7.rds.amazonaws.com":         {Reader, "ap-southeast-7"},
		"batch.cluster-custom-cabcdefghijk.us-east-2.rds.amazonaws.com":         {Custom, "us-east-2"},
		"mydb.shardgrp-cabcdefghijk.eu-central-1.rds.amazonaws.com":             {ShardGroup, "eu-central-1"},
		"mydb-instance-1.cabcdefghijk.ca-west-1.rds.amazonaws.com":              {Instance, "ca-west-1"},
		"cluster-1.cabcdefghijk.ca-west-1.rds.amazonaws.com":                    {Instance, "ca-west-1"},
		"mydb-instance-1-green-a1b2c3.cabcdefghijk.us-east-1.rds.amazonaws.com": {Instance, "us-east-1"},
		"pool.proxy-cabcdefghijk.us-west-2.rds.amazonaws.com":                   {RDSProxy, "us-west-2"},
		"reads.endpoint.proxy-cabcdefghijk.us-west-2.rds.amazonaws.com":         {RDSProxy, "us-west-2"},
		"mydb.cluster-cabcdefghijk.us-gov-west-1.rds.amazonaws.com":             {Cluster, "us-gov-west-1"},
		"mydb.cabcdefghijk.us-gov-east-1.rds-fips.amazonaws.com":                {Instance, "us-gov-east-1"},
		"mydb.cluster-cabcdefghijk.rds.cn-north-1.amazonaws.com.cn":             {Cluster, "cn-north-1"},
		"mydb.cluster-ro-cabcdefghijk.cn-north-1.rds.amazonaws.com.cn":          {Reader, "cn-north-1"},
		"mydb.cabcdefghijk.rds.cn-northwest-1.amazonaws.com.cn":                 {Instance, "cn-northwest-1"},
		"pool.proxy-cabcdefghijk.rds.cn-northwest-1.amazonaws.com.cn":           {RDSProxy, "cn-northwest-1"},
		"mydb.cabcdefghijk.cn-north-1.rds.amazonaws.com.cn":                     {Instance, "cn-north-1"},
		"mydb.cabcdefghijk.rds.us-iso-east-1.c2s.ic.gov":                        {Instance, "us-iso-east-1"},
		"mydb.cluster-cabcdefghijk.eusc-de-east-1.rds.amazonaws.eu":             {Cluster, "eusc-de-east-1"},
		"gdb.global-cabcdefghijk.global.rds.amazonaws.com":                      {Global, ""},
		"gdb.global-cabcdefghijk.global.rds.amazonaws.com.cn":                   {Global, ""},
		"abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws":                      {DSQL, "us-east-1"},
		"abcdefghijklmnopqrstuvwxyz.dsql-fnh4.ap-northeast-1.on.aws":            {DSQL, "ap-northeast-1"},
	} {
		if got := ParseName(host); got != want {
			t.Errorf("ParseName(%s) = %q, want %q", host, got, want)
		}
	}
}

func TestNeedsRegion(t *testing.T) {
	for host, want := range map[string]string{
		"gdb.global-cabcdefghijk.global.rds.amazonaws.com": "global writer endpoint",
		"db.example.com": "not a name that AWS assigned",
		"localhost":      "not a name that AWS assigned",
		"10.0.0.1":       "not a name that AWS assigned",
		"mydb.cabcdefghijk.eu-west-1.rds.amazonaws.com.evil.example":    "not a name that AWS assigned",
		"eu-west-1.rds.amazonaws.com":                                   "not a name that AWS assigned",
		"mydb.eu-west-1.rds.amazonaws.com":                              "not a name that AWS assigned",
		"mydb.cabcdefghijk.eu-west-1.rdsxamazonaws.com":                 "not a name that AWS assigned",
		"mydb.cabcdefghijk.global.rds.amazonaws.com":                    "not a name that AWS assigned",
		"gdb.global-cabcdefghijk.eu-west-1.rds.amazonaws.com":           "not a name that AWS assigned",
		"abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws.evil.example": "not a name that AWS assigned",
		"short.dsql.us-east-1.on.aws":                                   "not a name that AWS assigned",
	} {
		name := ParseName(host)
		if name.Region != "" {
			t.Errorf("%s has the region %s", host, name.Region)
		}
		if err := name.NeedsRegion(host); !strings.Contains(err.Error(), want) || !strings.Contains(text.Advice(err), "--region") {
			t.Errorf("%s: %v (%s), want %q and --region", host, err, text.Advice(err), want)
		}
	}
}

func TestPartition(t *testing.T) {
	for region, want := range map[string]string{"eu-west-1": "aws", "us-gov-east-1": "aws-us-gov", "cn-north-1": "aws-cn",
		"eusc-de-east-1": "aws-eusc", "us-iso-east-1": "aws-iso", "us-isob-east-1": "aws-iso-b", "eu-isoe-west-1": "aws-iso-e", "us-isof-south-1": "aws-iso-f"} {
		if got := Partition(region); got != want {
			t.Errorf("Partition(%s) = %s, want %s", region, got, want)
		}
		if !IsRegion(region) {
			t.Errorf("%s is not a region", region)
		}
	}
	for _, name := range []string{"", "eu west 1", "EU-WEST-1", "nonsense", "eu-west-1x", "eu-west"} {
		if IsRegion(name) {
			t.Errorf("%q is a region", name)
		}
	}
}
