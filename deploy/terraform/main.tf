# iamproxy as a sidecar of an ECS task: README.md.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.region
  account   = data.aws_caller_identity.current.account_id

  port      = try(tonumber(regex("^[^:?]+:([0-9]+)", var.endpoint)[0]), 5432)
  log_group = var.log_group == null ? aws_cloudwatch_log_group.this[0].name : var.log_group.name
}

resource "aws_cloudwatch_log_group" "this" {
  count = var.log_group == null ? 1 : 0

  name              = "/ecs/${var.name}"
  retention_in_days = var.log_retention_days
  tags              = var.tags
}

locals {
  trust_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:ecs:${local.region}:${local.account}:*" }
        StringEquals = { "aws:SourceAccount" = local.account }
      }
    }]
  })

  connect_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "rds-db:connect"
      Resource = [for user in sort(var.users) : "arn:${local.partition}:rds-db:${local.region}:${local.account}:dbuser:${var.resource_id}/${user}"]
    }]
  })
}

# iamproxy signs with the task role.
resource "aws_iam_role" "task" {
  count = var.task_role == null ? 1 : 0

  name               = "${var.name}-task"
  assume_role_policy = local.trust_policy
  tags               = var.tags
}

locals {
  task_role = var.task_role == null ? { name = aws_iam_role.task[0].name, arn = aws_iam_role.task[0].arn } : var.task_role
}

resource "aws_iam_role_policy" "connect" {
  name   = "${var.name}-connect"
  role   = local.task_role.name
  policy = local.connect_policy
}

# The log router sends to the log group with the task role.
resource "aws_iam_role_policy" "log" {
  count = try(length(var.firelens), 1) == 0 ? 1 : 0

  name = "${var.name}-log"
  role = local.task_role.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
      Resource = "arn:${local.partition}:logs:${local.region}:${local.account}:log-group:${local.log_group}:*"
    }]
  })
}

# Pulls the images and writes the log.
resource "aws_iam_role" "execution" {
  count = var.execution_role == null ? 1 : 0

  name               = "${var.name}-execution"
  assume_role_policy = local.trust_policy
  tags               = var.tags
}

resource "aws_iam_role_policy_attachment" "execution" {
  count = var.execution_role == null ? 1 : 0

  role       = aws_iam_role.execution[0].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

resource "aws_vpc_security_group_ingress_rule" "database" {
  count = var.database_security_group == null ? 0 : 1

  security_group_id            = var.database_security_group.id
  referenced_security_group_id = var.task_security_group.id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
  description                  = "${var.name}: tasks with iamproxy"
  tags                         = var.tags
}
