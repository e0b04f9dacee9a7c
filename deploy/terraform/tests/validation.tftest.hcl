# A plan fails if a value is wrong.

mock_provider "aws" {}

variables {
  endpoint    = "mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com"
  resource_id = "cluster-ABCDEFGHIJKL01234"
  users       = ["app"]
}

run "endpoint_url" {
  command         = plan
  expect_failures = [var.endpoint]
  variables { endpoint = "postgres://mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com" }
}

run "endpoint_list" {
  command         = plan
  expect_failures = [var.endpoint]
  variables { endpoint = "a.rds.amazonaws.com,b.rds.amazonaws.com" }
}

run "resource_id_name" {
  command         = plan
  expect_failures = [var.resource_id]
  variables { resource_id = "mydb" }
}

run "resource_id_arn" {
  command         = plan
  expect_failures = [var.resource_id]
  variables { resource_id = "arn:aws:rds:eu-west-1:111122223333:cluster:mydb" }
}

run "no_users" {
  command         = plan
  expect_failures = [var.users]
  variables { users = [] }
}

run "user_wildcard" {
  command         = plan
  expect_failures = [var.users]
  variables { users = ["app", "a*"] }
}

run "user_empty" {
  command         = plan
  expect_failures = [var.users]
  variables { users = [""] }
}

run "image_latest" {
  command         = plan
  expect_failures = [var.image]
  variables { image = "ghcr.io/iamproxy/iamproxy:latest" }
}

run "image_without_tag" {
  command         = plan
  expect_failures = [var.image]
  variables { image = "localhost:5000/iamproxy" }
}

run "network_mode" {
  command         = plan
  expect_failures = [var.network_mode]
  variables { network_mode = "host" }
}

run "memory" {
  command         = plan
  expect_failures = [var.memory_reservation]
  variables { memory_reservation = 32 }
}

run "nofile" {
  command         = plan
  expect_failures = [var.nofile]
  variables { nofile = 100 }
}

run "fast_start_bridge" {
  command         = plan
  expect_failures = [var.fast_start]
  variables {
    fast_start   = true
    network_mode = "bridge"
  }
}

run "fast_start_firelens" {
  command         = plan
  expect_failures = [var.fast_start]
  variables {
    fast_start = true
    firelens   = {}
  }
}

run "log_router_without_firelens" {
  command         = plan
  expect_failures = [var.log_router_image]
  variables { log_router_image = "fluent-bit:1" }
}

run "one_security_group" {
  command         = plan
  expect_failures = [var.database_security_group]
  variables { database_security_group = { id = "sg-0123456789abcdef0" } }
}
