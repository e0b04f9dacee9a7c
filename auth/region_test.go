package auth

import (
	"strings"
	"testing"
)

func TestRegion(t *testing.T) {
	for host, want := range map[string]string{
		"mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com":                 "eu-west-1",
		"mydb.cluster-ro-cabcdefghijk.ap-southeast-7.rds.amazonaws.com":         "ap-southeast-7",
		"batch.cluster-custom-cabcdefghijk.us-east-2.rds.amazonaws.com":         "us-east-2",
		"mydb.shardgrp-cabcdefghijk.eu-central-1.rds.amazonaws.com":             "eu-central-1",
		"mydb-instance-1.cabcdefghijk.ca-west-1.rds.amazonaws.com":              "ca-west-1",
		"mydb-instance-1-green-a1b2c3.cabcdefghijk.us-east-1.rds.amazonaws.com": "us-east-1",
		"pool.proxy-cabcdefghijk.us-west-2.rds.amazonaws.com":                   "us-west-2",
		"reads.endpoint.proxy-cabcdefghijk.us-west-2.rds.amazonaws.com":         "us-west-2",
		"mydb.cluster-cabcdefghijk.us-gov-west-1.rds.amazonaws.com":             "us-gov-west-1",
		"mydb.cabcdefghijk.us-gov-east-1.rds-fips.amazonaws.com":                "us-gov-east-1",
		"mydb.cluster-cabcdefghijk.rds.cn-north-1.amazonaws.com.cn":             "cn-north-1",
		"mydb.cabcdefghijk.rds.cn-northwest-1.amazonaws.com.cn":                 "cn-northwest-1",
		"mydb.cabcdefghijk.cn-north-1.rds.amazonaws.com.cn":                     "cn-north-1",
		"mydb.cabcdefghijk.rds.us-iso-east-1.c2s.ic.gov":                        "us-iso-east-1",
		"mydb.cluster-cabcdefghijk.eusc-de-east-1.rds.amazonaws.eu":             "eusc-de-east-1",
	} {
		if got, err := Region(host); got != want || err != nil {
			t.Errorf("Region(%s) = %q, %v, want %q", host, got, err, want)
		}
	}
}

func TestNoRegion(t *testing.T) {
	for host, want := range map[string]string{
		"gdb.global-cabcdefghijk.global.rds.amazonaws.com":    "global writer endpoint",
		"gdb.global-cabcdefghijk.global.rds.amazonaws.com.cn": "global writer endpoint",
		"db.example.com": "not a name that RDS gives",
		"localhost":      "not a name that RDS gives",
		"10.0.0.1":       "not a name that RDS gives",
		"mydb.cabcdefghijk.eu-west-1.rds.amazonaws.com.evil.example": "not a name that RDS gives",
		"eu-west-1.rds.amazonaws.com":                                "not a name that RDS gives",
		"mydb.eu-west-1.rds.amazonaws.com":                           "not a name that RDS gives",
		"mydb.cabcdefghijk.eu-west-1.rdsxamazonaws.com":              "not a name that RDS gives",
	} {
		got, err := Region(host)
		if got != "" || err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "region=") {
			t.Errorf("Region(%s) = %q, %v, want an error with %q that names region=", host, got, err, want)
		}
	}
}

func TestPartition(t *testing.T) {
	for region, want := range map[string]string{"eu-west-1": "aws", "us-gov-east-1": "aws-us-gov", "cn-north-1": "aws-cn",
		"eusc-de-east-1": "aws-eusc", "us-iso-east-1": "aws-iso", "us-isob-east-1": "aws-iso-b", "eu-isoe-west-1": "aws-iso-e", "us-isof-south-1": "aws-iso-f"} {
		if got := partition(region); got != want {
			t.Errorf("partition(%s) = %s, want %s", region, got, want)
		}
		if !IsRegion(region) {
			t.Errorf("%s is not taken for a region", region)
		}
	}
	for _, name := range []string{"", "eu west 1", "EU-WEST-1", "nonsense", "eu-west-1x", "eu-west"} {
		if IsRegion(name) {
			t.Errorf("%q is taken for a region", name)
		}
	}
}
