output "container_definitions" {
  value = concat(
    [local.iamproxy],
    var.fast_start ? [local.ready] : [],
    var.log_router_image == null ? [] : [local.log_router],
  )
  description = "Containers to add to container_definitions of the aws_ecs_task_definition."
  depends_on  = [aws_vpc_security_group_ingress_rule.database]
}

output "depends_on" {
  value = var.fast_start ? [
    { containerName = "iamproxy", condition = "START" },
    { containerName = "iamproxy-ready", condition = "SUCCESS" },
  ] : [{ containerName = "iamproxy", condition = "HEALTHY" }]
  description = "dependsOn of the application's container: it starts after iamproxy, and stops before it."
}

output "environment" {
  value = concat(
    [{ name = "PGHOST", value = local.bridge ? local.socket.path : "localhost" }],
    [{ name = "PGSSLMODE", value = "disable" }],
  )
  description = "Variables of libpq for the application's container. The port is the default, 5432."
}

output "mount_points" {
  value       = local.bridge ? [{ sourceVolume = local.socket.name, containerPath = local.socket.path, readOnly = true }] : []
  description = "mountPoints of the application's container. Empty in the network mode awsvpc."
}

output "volumes" {
  value = local.bridge ? [{
    name = local.socket.name
    docker_volume_configuration = {
      scope       = "task"
      driver      = "local"
      driver_opts = { type = "tmpfs", device = "tmpfs", o = "uid=65532,gid=65532,mode=0755" }
    }
  }] : []
  description = "Volumes of the task. Empty in the network mode awsvpc."
}

output "task_role_arn" {
  value       = local.task_role.arn
  description = "task_role_arn of the task. iamproxy signs with it."
  depends_on  = [aws_iam_role_policy.connect, aws_iam_role_policy.log]
}

output "execution_role_arn" {
  value       = var.execution_role == null ? aws_iam_role.execution[0].arn : var.execution_role.arn
  description = "execution_role_arn of the task."
  depends_on  = [aws_iam_role_policy_attachment.execution]
}

output "policy" {
  value       = local.connect_policy
  description = "The policy of the task role, as JSON."
}

output "log_group_name" {
  value       = local.log_group
  description = "Name of the log group."
}
