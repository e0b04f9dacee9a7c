# The containers, in the form of an ECS task definition.

locals {
  bridge = var.network_mode == "bridge"
  socket = { name = "iamproxy-socket", path = "/run/iamproxy" }

  environment = merge(
    { IAMPROXY_ENDPOINTS = var.endpoint },
    # In the network mode bridge, containers do not share localhost.
    local.bridge ? { IAMPROXY_LISTEN = "unix:${local.socket.path}", IAMPROXY_SOCKET_MODE = "0666" } : {},
    var.environment,
  )

  awslogs = {
    logDriver = "awslogs"
    options = tomap({
      awslogs-group         = local.log_group
      awslogs-region        = local.region
      awslogs-stream-prefix = "ecs"
      mode                  = "non-blocking"
    })
  }

  firelens = {
    logDriver = "awsfirelens"
    options = length(coalesce(var.firelens, {})) > 0 ? var.firelens : tomap({
      Name              = "cloudwatch_logs"
      region            = local.region
      log_group_name    = local.log_group
      log_stream_prefix = "ecs/"
    })
  }

  hardened = {
    user                   = "65532:65532"
    readonlyRootFilesystem = true
    linuxParameters        = { capabilities = { drop = ["ALL"] } }
  }

  iamproxy = merge(local.hardened, { for field, value in {
    name              = "iamproxy"
    image             = var.image
    essential         = true
    memoryReservation = var.memory_reservation
    environment       = [for name, value in local.environment : { name = name, value = value }]
    mountPoints       = local.bridge ? [{ sourceVolume = local.socket.name, containerPath = local.socket.path, readOnly = false }] : null
    ulimits           = var.nofile == null ? null : [{ name = "nofile", softLimit = var.nofile, hardLimit = var.nofile }]
    healthCheck = {
      command     = ["CMD", "/iamproxy", "wait", "--timeout", "2s"]
      interval    = var.fast_start ? 30 : 10
      timeout     = 5
      retries     = var.fast_start ? 2 : 5
      startPeriod = 30
    }
    stopTimeout      = 30 # longer than --drain-max, which is 25 s
    logConfiguration = var.firelens == null ? local.awslogs : local.firelens
  } : field => value if value != null })

  # Exits when iamproxy is ready.
  ready = merge(
    local.hardened,
    {
      name              = "iamproxy-ready"
      image             = var.image
      essential         = false
      memoryReservation = 32
      command           = ["wait", "--timeout", "60s"]
      dependsOn         = [{ containerName = "iamproxy", condition = "START" }]
      logConfiguration  = local.awslogs
    },
  )

  log_router = {
    name                  = "log_router"
    image                 = var.log_router_image
    essential             = true
    memoryReservation     = 50
    firelensConfiguration = { type = "fluentbit", options = { config-file-type = "file", config-file-value = "/fluent-bit/configs/parse-json.conf" } }
    logConfiguration      = local.awslogs
  }
}
