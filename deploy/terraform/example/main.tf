# A service with iamproxy: ../README.md.

terraform {
  required_providers {
    aws = { source = "hashicorp/aws", version = ">= 6.0" }
  }
}

variable "endpoint" {
  type        = string
  description = "Endpoint of the cluster, the instance or the RDS Proxy."
}

variable "resource_id" {
  type        = string
  description = "Resource ID of the database: cluster-..., db-... or prx-..."
}

variable "cluster" {
  type        = string
  description = "Name or ARN of the ECS cluster."
}

variable "subnets" {
  type        = list(string)
  default     = []
  description = "Subnets of the tasks. Only for awsvpc."
}

variable "security_group" {
  type        = string
  description = "Security group of the tasks, or in the network mode bridge of the EC2 instances."
}

variable "database_security_group" {
  type        = string
  description = "Security group of the database."
}

variable "network_mode" {
  type        = string
  default     = "awsvpc"
  description = "awsvpc on Fargate, or bridge on EC2."
}

variable "cpu_architecture" {
  type        = string
  default     = "X86_64"
  description = "X86_64 or ARM64. The image has both."
}

variable "options" {
  type = object({
    memory_reservation = optional(number, 64)
    nofile             = optional(number)
    fast_start         = optional(bool, false)
    firelens           = optional(map(string))
    log_router_image   = optional(string)
  })
  default     = {}
  description = "Options of the module."
}

module "iamproxy" {
  source = "../"

  name                    = "app"
  endpoint                = var.endpoint
  resource_id             = var.resource_id
  users                   = ["app"]
  network_mode            = var.network_mode
  database_security_group = { id = var.database_security_group }
  task_security_group     = { id = var.security_group }

  memory_reservation = var.options.memory_reservation
  nofile             = var.options.nofile
  fast_start         = var.options.fast_start
  firelens           = var.options.firelens
  log_router_image   = var.options.log_router_image
}

data "aws_region" "current" {}

resource "aws_ecs_task_definition" "app" {
  family                   = "app"
  requires_compatibilities = [var.network_mode == "bridge" ? "EC2" : "FARGATE"]
  network_mode             = var.network_mode
  cpu                      = "256"
  memory                   = "512"
  task_role_arn            = module.iamproxy.task_role_arn
  execution_role_arn       = module.iamproxy.execution_role_arn

  container_definitions = jsonencode(concat(module.iamproxy.container_definitions, [{
    name            = "app"
    image           = "public.ecr.aws/docker/library/postgres:18"
    essential       = true
    command         = ["sh", "-c", "while psql -x -c 'select now(), current_user, inet_server_addr()'; do sleep 60; done; exit 1"]
    user            = "1000:1000"
    linuxParameters = { initProcessEnabled = true }
    stopTimeout     = 60

    environment = concat(module.iamproxy.environment, [{ name = "PGUSER", value = "app" }, { name = "PGDATABASE", value = "mydb" }])
    dependsOn   = module.iamproxy.depends_on
    mountPoints = module.iamproxy.mount_points

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = module.iamproxy.log_group_name
        awslogs-region        = data.aws_region.current.region
        awslogs-stream-prefix = "ecs"
      }
    }
  }]))

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  dynamic "volume" {
    for_each = module.iamproxy.volumes
    content {
      name = volume.value.name
      docker_volume_configuration {
        scope       = volume.value.docker_volume_configuration.scope
        driver      = volume.value.docker_volume_configuration.driver
        driver_opts = volume.value.docker_volume_configuration.driver_opts
      }
    }
  }
}

resource "aws_ecs_service" "app" {
  name                               = "app"
  cluster                            = var.cluster
  task_definition                    = aws_ecs_task_definition.app.arn
  desired_count                      = 1
  launch_type                        = var.network_mode == "bridge" ? "EC2" : "FARGATE"
  deployment_minimum_healthy_percent = 100

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  dynamic "network_configuration" {
    for_each = var.network_mode == "bridge" ? [] : [var.subnets]
    content {
      subnets         = network_configuration.value
      security_groups = [var.security_group]
    }
  }
}
