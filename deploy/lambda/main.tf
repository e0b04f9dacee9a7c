# A function with iamproxy, for Terraform: README.md. `make layer` in the repository builds the layer.

terraform {
  required_providers {
    aws     = { source = "hashicorp/aws", version = "~> 6.0" }
    archive = { source = "hashicorp/archive", version = "~> 2.0" }
  }
}

variable "endpoint" {
  type        = string
  description = "Endpoint of the cluster, the instance or the RDS Proxy"
}

variable "resource_id" {
  type        = string
  description = "Resource ID of the database: cluster-..., db-... or prx-..."
}

variable "subnets" {
  type        = list(string)
  description = "Subnets of the VPC of the database"
}

variable "security_group" {
  type        = string
  description = "Security group of the function, which that of the database allows"
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

resource "aws_lambda_layer_version" "iamproxy" {
  layer_name               = "iamproxy"
  filename                 = "../../bin/iamproxy-lambda-amd64.zip"
  source_code_hash         = filebase64sha256("../../bin/iamproxy-lambda-amd64.zip")
  compatible_architectures = ["x86_64"]
  license_info             = "Apache-2.0"
}

data "archive_file" "function" {
  type        = "zip"
  source_dir  = "example"
  output_path = "function.zip"
}

resource "aws_iam_role" "function" {
  name_prefix = "iamproxy-function-"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "lambda.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy_attachment" "vpc" {
  role       = aws_iam_role.function.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole"
}

resource "aws_iam_role_policy" "connect" {
  role = aws_iam_role.function.name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "rds-db:connect"
      Resource = "arn:${data.aws_partition.current.partition}:rds-db:${data.aws_region.current.region}:${data.aws_caller_identity.current.account_id}:dbuser:${var.resource_id}/app"
    }]
  })
}

resource "aws_lambda_function" "function" {
  function_name    = "iamproxy-example"
  filename         = data.archive_file.function.output_path
  source_code_hash = data.archive_file.function.output_base64sha256
  handler          = "index.handler"
  runtime          = "nodejs24.x"
  architectures    = ["x86_64"]
  layers           = [aws_lambda_layer_version.iamproxy.arn]
  memory_size      = 512
  timeout          = 15
  role             = aws_iam_role.function.arn

  logging_config {
    log_format            = "JSON"
    application_log_level = "WARN"
  }

  vpc_config {
    subnet_ids         = var.subnets
    security_group_ids = [var.security_group]
  }

  environment {
    variables = {
      IAMPROXY_ENDPOINTS = var.endpoint
      PGHOST             = "localhost"
      PGUSER             = "app"
      PGDATABASE         = "mydb"
    }
  }

  # Lambda creates and deletes network interfaces with this role.
  depends_on = [aws_iam_role_policy_attachment.vpc, aws_iam_role_policy.connect]
}
