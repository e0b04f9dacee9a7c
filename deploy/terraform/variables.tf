variable "name" {
  type        = string
  default     = "iamproxy"
  description = "Prefix of the names of the roles and of the log group. It must be unique in the account, since the names of roles are."

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,40}$", var.name))
    error_message = "A name has 1 to 40 letters, digits, hyphens and underscores."
  }
}

variable "endpoint" {
  type        = string
  description = "ENDPOINT: the name that AWS gave the database, with an optional port and settings, as in docs/reference.md."

  validation {
    condition     = can(regex("^[A-Za-z0-9.-]+(:[0-9]+)?([?][^ ,]+)?$", var.endpoint))
    error_message = "An endpoint is HOST, HOST:PORT or HOST:PORT?KEY=VALUE, not a URL."
  }
}

variable "resource_id" {
  type        = string
  description = "Resource ID of the database: cluster_resource_id of an aws_rds_cluster, resource_id of an aws_db_instance, or prx-... of an RDS Proxy."

  validation {
    condition     = can(regex("^(cluster|db|prx)-[A-Za-z0-9]+$", var.resource_id))
    error_message = "A resource ID is cluster-..., db-... or prx-..., not a name or an ARN."
  }
}

variable "users" {
  type        = set(string)
  description = "Database users that the task may log in as."

  validation {
    condition     = length(var.users) > 0 && alltrue([for user in var.users : can(regex("^[^*?$,\\\\]+$", user))])
    error_message = "At least one user is required. A user is not empty and has none of * ? $ , \\."
  }
}

variable "image" {
  type        = string
  default     = "ghcr.io/iamproxy/iamproxy:v1.2.3"
  description = "Image of iamproxy, with a tag or a digest."

  validation {
    condition     = can(regex("(:[A-Za-z0-9_.-]+|@sha256:[0-9a-f]{64})$", var.image)) && !endswith(var.image, ":latest")
    error_message = "An image has a digest, or a tag that is not latest."
  }
}

variable "environment" {
  type        = map(string)
  default     = {}
  description = "Further flags of iamproxy, as IAMPROXY_... variables."
}

variable "network_mode" {
  type        = string
  default     = "awsvpc"
  description = "Network mode of the task. In awsvpc, the application connects to localhost, in bridge (on EC2) to a unix socket on a volume."

  validation {
    condition     = contains(["awsvpc", "bridge"], var.network_mode)
    error_message = "The network mode is awsvpc or bridge."
  }
}

variable "memory_reservation" {
  type        = number
  default     = 64
  description = "Memory of iamproxy in MiB: 32, and 1 for each 8 sessions. See docs/ecs-options.md."

  validation {
    condition     = var.memory_reservation > 32
    error_message = "iamproxy needs more than 32 MiB."
  }
}

variable "nofile" {
  type        = number
  default     = null
  description = "Number of files that iamproxy may open, which limits the sessions. Default: that of Fargate or of the Docker daemon."

  validation {
    condition     = var.nofile == null ? true : var.nofile >= 1024 && var.nofile <= 1048576
    error_message = "The number of open files is from 1,024 to 1,048,576."
  }
}

variable "fast_start" {
  type        = bool
  default     = false
  description = "Starts the application as soon as iamproxy is ready, and checks the health every 30 s in place of 10 s. Adds the container iamproxy-ready. Only for awsvpc, and without firelens."

  validation {
    condition     = !var.fast_start || (var.network_mode == "awsvpc" && var.firelens == null)
    error_message = "fast_start is for the network mode awsvpc, and excludes firelens."
  }
}

variable "firelens" {
  type        = map(string)
  default     = null
  description = "Options of FireLens for the log. {} sends it to the log group. Default: without FireLens."
}

variable "log_router_image" {
  type        = string
  default     = null
  description = "Image of Fluent Bit, to add the container log_router. Default: the task has its own log router, or none."

  validation {
    condition     = var.log_router_image == null || var.firelens != null
    error_message = "log_router_image needs firelens."
  }
}

variable "log_group" {
  type        = object({ name = string })
  default     = null
  description = "Log group, such as an aws_cloudwatch_log_group. Default: a new one, /ecs/NAME."
}

variable "log_retention_days" {
  type        = number
  default     = 30
  description = "Days that a new log group keeps the log."
}

variable "task_role" {
  type        = object({ name = string, arn = string })
  default     = null
  description = "Task role that gets the policy, such as an aws_iam_role. Default: a new one."
}

variable "execution_role" {
  type        = object({ arn = string })
  default     = null
  description = "Task execution role, such as an aws_iam_role. Default: a new one."
}

variable "database_security_group" {
  type        = object({ id = string })
  default     = null
  description = "Security group of the database, in which a rule allows task_security_group. Default: no rule."

  validation {
    condition     = (var.database_security_group == null) == (var.task_security_group == null)
    error_message = "The rule needs both security groups."
  }
}

variable "task_security_group" {
  type        = object({ id = string })
  default     = null
  description = "Security group of the tasks, or in the network mode bridge of the EC2 instances. Default: no rule."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Tags of the roles, the log group and the rule, besides the default_tags of the provider."
}
