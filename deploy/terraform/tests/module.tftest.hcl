mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws-us-gov" }
  }
  mock_data "aws_region" {
    defaults = { region = "us-gov-west-1" }
  }
}

variables {
  endpoint    = "mydb.cluster-cabcdefghijk.us-gov-west-1.rds.amazonaws.com:5433?target=any"
  resource_id = "cluster-ABCDEFGHIJKL01234"
  users       = ["report", "app"]
}

run "new_resources" {
  variables {
    tags = { team = "data" }
  }

  assert {
    condition     = jsondecode(output.policy).Statement[0].Resource == [for user in ["app", "report"] : "arn:aws-us-gov:rds-db:us-gov-west-1:111122223333:dbuser:cluster-ABCDEFGHIJKL01234/${user}"]
    error_message = "The policy allows ${output.policy}."
  }
  assert {
    condition     = aws_iam_role_policy.connect.role == "iamproxy-task" && aws_iam_role_policy.connect.policy == output.policy
    error_message = "The task role lacks the policy."
  }
  assert {
    condition     = output.log_group_name == "/ecs/iamproxy" && output.container_definitions[0].logConfiguration.options["awslogs-group"] == "/ecs/iamproxy"
    error_message = "The log goes elsewhere."
  }
  assert {
    condition     = alltrue([for resource in [aws_iam_role.task[0], aws_iam_role.execution[0], aws_cloudwatch_log_group.this[0]] : resource.tags == tomap({ team = "data" })])
    error_message = "The new resources lack the tag."
  }
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.database) == 0
    error_message = "There is a rule without security groups."
  }
}

run "existing_resources" {
  variables {
    task_role               = { name = "mine", arn = "arn:aws-us-gov:iam::111122223333:role/mine" }
    execution_role          = { arn = "arn:aws-us-gov:iam::111122223333:role/pull" }
    log_group               = { name = "/mine" }
    database_security_group = { id = "sg-0123456789abcdef1" }
    task_security_group     = { id = "sg-0123456789abcdef0" }
    environment             = { IAMPROXY_POOL = "20" }
  }

  assert {
    condition     = length(aws_iam_role.task) + length(aws_iam_role.execution) + length(aws_cloudwatch_log_group.this) == 0
    error_message = "There are new roles or a new log group."
  }
  assert {
    condition     = aws_iam_role_policy.connect.role == "mine" && output.task_role_arn == var.task_role.arn && output.execution_role_arn == var.execution_role.arn
    error_message = "The roles are others."
  }
  assert {
    condition     = output.log_group_name == "/mine"
    error_message = "The log group is another."
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.database[0].from_port == 5433 && aws_vpc_security_group_ingress_rule.database[0].to_port == 5433
    error_message = "The rule has not the port of the endpoint."
  }
  assert {
    condition     = contains(output.container_definitions[0].environment, { name = "IAMPROXY_POOL", value = "20" })
    error_message = "iamproxy lacks the variable."
  }
}

run "own_log_router" {
  variables {
    firelens = { Name = "forward", Host = "logs.internal" }
  }

  assert {
    condition     = output.container_definitions[0].logConfiguration == { logDriver = "awsfirelens", options = tomap({ Name = "forward", Host = "logs.internal" }) }
    error_message = "The log goes elsewhere."
  }
  assert {
    condition     = length(output.container_definitions) == 1 && length(aws_iam_role_policy.log) == 0
    error_message = "There is a log router, or a policy for one."
  }
}
