import { join } from 'node:path';
import {
  Annotations, ArnFormat, CfnResource, CustomResource, Duration, Stack, Token,
  aws_ec2 as ec2, aws_ecs as ecs, aws_iam as iam, aws_lambda as lambda, aws_logs as logs,
  aws_rds as rds, aws_secretsmanager as secretsmanager, custom_resources as cr,
} from 'aws-cdk-lib';
import { Construct, Dependable, type IConstruct, type IDependable } from 'constructs';

/** A database. fromCluster and fromInstance return the one of an RDS construct. */
export interface Database {
  /** Endpoint of the cluster, the instance or the RDS Proxy, as AWS named it. */
  readonly host: string;
  /** Default: 5432. */
  readonly port?: number;
  /** Resource ID for the policy: cluster-..., db-... or prx-... */
  readonly resourceId: string;
  /** Its security groups, in which allowFrom and DatabaseUsers add rules. */
  readonly connections?: ec2.Connections;
  /** Resources that must exist before a login. */
  readonly ready?: IDependable;
}

export function fromCluster(cluster: rds.IDatabaseCluster): Database {
  return {
    host: cluster.clusterEndpoint.hostname,
    port: cluster.clusterEndpoint.port,
    resourceId: cluster.clusterResourceIdentifier,
    connections: cluster.connections,
    ready: resourcesOf(cluster),
  };
}

export function fromInstance(instance: rds.IDatabaseInstance): Database {
  if (instance.instanceResourceId === undefined) {
    throw new Error(`${instance.node.path}: import the instance with its instanceResourceId (db-...)`);
  }
  return {
    host: instance.dbInstanceEndpointAddress,
    port: Token.asNumber(instance.dbInstanceEndpointPort),
    resourceId: instance.instanceResourceId,
    connections: instance.connections,
    ready: resourcesOf(instance),
  };
}

/**
 * Returns a cluster with its instances, or an instance, as a dependency. It omits the security
 * group: its rules depend on services, which may in turn depend on the database users.
 */
function resourcesOf(database: IConstruct): IDependable {
  const resources = {};
  Dependable.implement(resources, {
    get dependencyRoots() {
      return database.node.findAll().filter((part) => CfnResource.isCfnResource(part) && part.cfnResourceType.startsWith('AWS::RDS::'));
    },
  });
  return resources;
}

export interface IamproxySidecarProps {
  /**
   * In the network mode awsvpc, the application reaches iamproxy at localhost:5432, and in bridge at
   * the unix socket in socketDirectory.
   */
  readonly taskDefinition: ecs.TaskDefinition;
  readonly image: ecs.ContainerImage;
  readonly database: Database;
  /** Database users that the task may log in as. */
  readonly users: string[];
  /** Further flags, as IAMPROXY_... variables. */
  readonly environment?: Record<string, string>;
  /** Default: CloudWatch Logs with the stream prefix iamproxy. */
  readonly logging?: ecs.LogDriver;
  /** 32 MiB, and 1 for each 8 sessions. Default: 64. */
  readonly memoryReservationMiB?: number;
  /** Number of files that iamproxy may open. Default: that of Fargate or of the Docker daemon. */
  readonly nofile?: number;
  /**
   * Starts the application as soon as iamproxy is ready, and checks the health every 30 s in place
   * of 10 s. It needs awsvpc, and excludes FireLens. Default: false.
   */
  readonly fastStart?: boolean;
}

/** Directory of iamproxy's unix socket in the network mode bridge. */
export const socketDirectory = '/run/iamproxy';

const socketVolume = 'iamproxy-socket';

/** iamproxy as a sidecar of an application. The task role gets rds-db:connect. */
export class IamproxySidecar extends Construct {
  readonly container: ecs.ContainerDefinition;
  /** Exits when iamproxy is ready. Only with fastStart. */
  readonly ready?: ecs.ContainerDefinition;
  private readonly database: Database;
  private readonly bridge: boolean;

  constructor(scope: Construct, id: string, props: IamproxySidecarProps) {
    super(scope, id);
    this.database = props.database;
    const { taskDefinition, image, fastStart = false } = props;
    this.bridge = taskDefinition.networkMode === ecs.NetworkMode.BRIDGE;
    if (!this.bridge && taskDefinition.networkMode !== ecs.NetworkMode.AWS_VPC) {
      Annotations.of(this).addError('iamproxy needs the network mode awsvpc or bridge');
    }
    const logging = props.logging ?? ecs.LogDrivers.awsLogs({ streamPrefix: 'iamproxy' });
    if (fastStart && (this.bridge || logging instanceof ecs.FireLensLogDriver)) {
      Annotations.of(this).addError('fastStart needs the network mode awsvpc, and excludes FireLens');
    }
    this.container = taskDefinition.addContainer('iamproxy', {
      containerName: 'iamproxy',
      image,
      essential: true,
      memoryReservationMiB: props.memoryReservationMiB ?? 64,
      environment: {
        IAMPROXY_ENDPOINTS: address(props.database),
        ...this.bridge ? { IAMPROXY_LISTEN: `unix:${socketDirectory}`, IAMPROXY_SOCKET_MODE: '0666' } : {},
        ...props.environment,
      },
      healthCheck: {
        command: ['CMD', '/iamproxy', 'wait', '--timeout', '2s'],
        interval: Duration.seconds(fastStart ? 30 : 10),
        timeout: Duration.seconds(5),
        retries: fastStart ? 2 : 5,
        startPeriod: Duration.seconds(30),
      },
      // Longer than --drain-max, which is 25 s.
      stopTimeout: Duration.seconds(30),
      ulimits: props.nofile === undefined ? undefined : [{ name: ecs.UlimitName.NOFILE, softLimit: props.nofile, hardLimit: props.nofile }],
      logging,
      ...hardened(this),
    });
    if (this.bridge) {
      taskDefinition.addVolume({
        name: socketVolume,
        dockerVolumeConfiguration: {
          scope: ecs.Scope.TASK,
          driver: 'local',
          driverOpts: { type: 'tmpfs', device: 'tmpfs', o: 'uid=65532,gid=65532,mode=0755' },
        },
      });
      this.mount(this.container, false);
    }
    if (fastStart) {
      this.ready = taskDefinition.addContainer('iamproxy-ready', {
        containerName: 'iamproxy-ready',
        image,
        essential: false,
        command: ['wait', '--timeout', '60s'],
        memoryReservationMiB: 32,
        logging,
        ...hardened(new Construct(this, 'Ready')),
      });
      this.ready.addContainerDependencies({ container: this.container, condition: ecs.ContainerDependencyCondition.START });
    }
    taskDefinition.addToTaskRolePolicy(connectStatement(this, props.database, props.users));
  }

  /**
   * Starts a container when iamproxy is healthy, or with fastStart when it is ready. ECS stops the
   * container before iamproxy. In the network mode bridge, it gets the volume with the socket.
   */
  startBefore(app: ecs.ContainerDefinition): void {
    const { START, SUCCESS, HEALTHY } = ecs.ContainerDependencyCondition;
    app.addContainerDependencies({ container: this.container, condition: this.ready ? START : HEALTHY });
    if (this.ready) {
      app.addContainerDependencies({ container: this.ready, condition: SUCCESS });
    }
    if (this.bridge) {
      this.mount(app, true);
    }
  }

  private mount(container: ecs.ContainerDefinition, readOnly: boolean): void {
    container.addMountPoints({ sourceVolume: socketVolume, containerPath: socketDirectory, readOnly });
  }

  /** Allows a service in the security groups of the database. */
  allowFrom(service: ec2.IConnectable): void {
    this.database.connections?.allowFrom(service, ec2.Port.tcp(port(this.database)));
  }
}

export interface IamproxyExtensionProps {
  readonly function: lambda.Function;
  /**
   * The layer of a release, or of `make layer`, for the processor of the function. Default: none,
   * for a container image that has iamproxy in /opt/extensions.
   */
  readonly layer?: lambda.ILayerVersion;
  readonly database: Database;
  /** Database users that the function may log in as. */
  readonly users: string[];
  /** Further flags, as IAMPROXY_... variables. */
  readonly environment?: Record<string, string>;
}

/**
 * iamproxy as an extension of a Lambda function. The role of the function gets rds-db:connect, and
 * the security groups of the database allow the function if it is in a VPC.
 */
export class IamproxyExtension extends Construct {
  constructor(scope: Construct, id: string, props: IamproxyExtensionProps) {
    super(scope, id);
    const { function: fn, database } = props;
    if (props.layer) {
      fn.addLayers(props.layer);
    }
    for (const [name, value] of Object.entries({ IAMPROXY_ENDPOINTS: address(database), PGHOST: 'localhost', ...props.environment })) {
      fn.addEnvironment(name, value);
    }
    fn.addToRolePolicy(connectStatement(this, database, props.users));
    if (fn.isBoundToVpc) {
      database.connections?.allowFrom(fn, ec2.Port.tcp(port(database)));
    }
  }
}

export interface DatabaseUsersProps {
  /** Cluster for the task that creates the users. It runs on Fargate. */
  readonly cluster: ecs.ICluster;
  /** Default: private subnets with egress. The task needs a route to the image registry. */
  readonly subnets?: ec2.SubnetSelection;
  readonly image: ecs.ContainerImage;
  /** The endpoint must be that of the writer. */
  readonly database: Database;
  /** Users to create, unless they exist, and to grant rds_iam. */
  readonly users: string[];
  /** Privileges in a database, as in docs/grant.md. Default: none but to log in. */
  readonly privileges?: { readonly database: string; readonly level: 'readonly' | 'readwrite' | 'owner' };
  /** Secret of the administrator, with username and password, such as the cluster's. */
  readonly secret: secretsmanager.ISecret;
  /** Default: X86_64. */
  readonly cpuArchitecture?: ecs.CpuArchitecture;
}

/**
 * Database users that log in with tokens. A task runs `iamproxy grant` at the first deployment,
 * and when the users, their privileges or the database change. It never drops a user or revokes
 * a privilege, not even when this construct is removed.
 */
export class DatabaseUsers extends Construct {
  readonly taskDefinition: ecs.FargateTaskDefinition;

  constructor(scope: Construct, id: string, props: DatabaseUsersProps) {
    super(scope, id);
    const { cluster, database } = props;
    const users = checked(props.users);
    const privileges = props.privileges ? [`--database=${props.privileges.database}`, `--privileges=${props.privileges.level}`] : [];
    // It is kept when a deployment is rolled back, since it has the reason of a failure.
    const logGroup = new logs.LogGroup(this, 'Log', { retention: logs.RetentionDays.ONE_MONTH });
    this.taskDefinition = new ecs.FargateTaskDefinition(this, 'Task', {
      cpu: 256,
      memoryLimitMiB: 512,
      runtimePlatform: {
        cpuArchitecture: props.cpuArchitecture ?? ecs.CpuArchitecture.X86_64,
        operatingSystemFamily: ecs.OperatingSystemFamily.LINUX,
      },
    });
    this.taskDefinition.addContainer('grant', {
      containerName: 'grant',
      image: props.image,
      // A paused serverless cluster needs time to resume.
      command: ['grant', address(database), '--timeout=2m', ...users.map((user) => `--user=${user}`), ...privileges],
      secrets: {
        IAMPROXY_ADMIN_USER: ecs.Secret.fromSecretsManager(props.secret, 'username'),
        PGPASSWORD: ecs.Secret.fromSecretsManager(props.secret, 'password'),
      },
      logging: ecs.LogDrivers.awsLogs({ streamPrefix: 'iamproxy', logGroup }),
      ...hardened(this),
    });

    const securityGroup = new ec2.SecurityGroup(this, 'SecurityGroup', {
      vpc: cluster.vpc,
      description: 'iamproxy: task that creates database users',
    });
    // Not with database.connections: the task must depend on these rules only.
    const rules = (database.connections?.securityGroups ?? []).map((group, n) => new ec2.CfnSecurityGroupIngress(this, `Ingress${n}`, {
      groupId: group.securityGroupId,
      sourceSecurityGroupId: securityGroup.securityGroupId,
      ipProtocol: 'tcp',
      fromPort: port(database),
      toPort: port(database),
      description: 'iamproxy: task that creates database users',
    }));
    const subnets = cluster.vpc.selectSubnets(props.subnets ?? { subnetType: ec2.SubnetType.PRIVATE_WITH_EGRESS });

    const provider = this.provider(cluster);
    const resource = new CustomResource(this, 'Users', {
      resourceType: 'Custom::IamproxyDatabaseUsers',
      serviceToken: provider.serviceToken,
      properties: {
        Database: address(database),
        Users: users,
        Privileges: privileges,
        Cluster: cluster.clusterArn,
        TaskDefinition: this.taskDefinition.taskDefinitionArn,
        Subnets: subnets.subnetIds,
        SecurityGroup: securityGroup.securityGroupId,
        AssignPublicIp: subnets.hasPublic ? 'ENABLED' : 'DISABLED',
        LogGroup: logGroup.logGroupName,
      },
    });
    // The writer, the security group rules, the policies of the task's roles, and a route to the image.
    resource.node.addDependency(this.taskDefinition, securityGroup, ...rules, logGroup, subnets.internetConnectivityEstablished,
      ...(database.ready ? [database.ready] : []));
  }

  /** Returns the provider that runs the task and waits for its end. */
  private provider(cluster: ecs.ICluster): cr.Provider {
    const stack = Stack.of(this);
    const code = lambda.Code.fromAsset(join(__dirname, 'handler'));
    const part = (id: string, handler: string, ...statements: iam.PolicyStatement[]) => new lambda.Function(this, id, {
      runtime: lambda.Runtime.NODEJS_24_X,
      code,
      handler: `index.${handler}`,
      timeout: Duration.minutes(1),
      initialPolicy: statements,
    });
    const inCluster = { ArnEquals: { 'ecs:cluster': cluster.clusterArn } };
    const roles = [this.taskDefinition.taskRole, this.taskDefinition.obtainExecutionRole()];
    return new cr.Provider(this, 'Provider', {
      onEventHandler: part('Run', 'onEvent',
        new iam.PolicyStatement({ actions: ['ecs:RunTask'], resources: [this.taskDefinition.taskDefinitionArn], conditions: inCluster }),
        new iam.PolicyStatement({
          actions: ['iam:PassRole'],
          resources: roles.map((role) => role.roleArn),
          conditions: { StringEquals: { 'iam:PassedToService': 'ecs-tasks.amazonaws.com' } },
        })),
      isCompleteHandler: part('Wait', 'isComplete',
        new iam.PolicyStatement({
          actions: ['ecs:DescribeTasks'],
          resources: [stack.formatArn({ service: 'ecs', resource: 'task', resourceName: `${cluster.clusterName}/*` })],
          conditions: inCluster,
        })),
      queryInterval: Duration.seconds(10),
      totalTimeout: Duration.minutes(15),
    });
  }
}

/** Returns the permission to log in as the users. */
function connectStatement(scope: Construct, database: Database, users: string[]): iam.PolicyStatement {
  return new iam.PolicyStatement({
    actions: ['rds-db:connect'],
    resources: checked(users).map((user) => Stack.of(scope).formatArn({
      service: 'rds-db',
      resource: 'dbuser',
      resourceName: `${database.resourceId}/${user}`,
      arnFormat: ArnFormat.COLON_RESOURCE_NAME,
    })),
  });
}

/** Returns the restrictions of the containers. */
function hardened(scope: Construct): Pick<ecs.ContainerDefinitionOptions, 'user' | 'readonlyRootFilesystem' | 'linuxParameters'> {
  const linuxParameters = new ecs.LinuxParameters(scope, 'LinuxParameters');
  linuxParameters.dropCapabilities(ecs.Capability.ALL);
  return { user: '65532:65532', readonlyRootFilesystem: true, linuxParameters };
}

function address(database: Database): string {
  return `${database.host}:${Token.asString(port(database))}`;
}

function port(database: Database): number {
  return database.port ?? 5432;
}

/** Returns the users, or throws if a name has a special meaning in a policy or on a command line. */
function checked(users: string[]): string[] {
  if (users.length === 0) {
    throw new Error('users: at least one is required');
  }
  for (const user of users) {
    if (user === '' || /[*?$,\\]/.test(user) && !Token.isUnresolved(user)) {
      throw new Error(`users: '${user}' cannot be used in a policy: it is empty or has one of * ? $ , \\`);
    }
  }
  return users;
}
