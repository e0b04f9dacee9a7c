import { join } from 'node:path';
import {
  Annotations, ArnFormat, CfnResource, CustomResource, Duration, Stack, Token,
  aws_ec2 as ec2, aws_ecs as ecs, aws_iam as iam, aws_lambda as lambda, aws_logs as logs,
  aws_rds as rds, aws_secretsmanager as secretsmanager, custom_resources as cr,
} from 'aws-cdk-lib';
import { Construct, Dependable, type IConstruct, type IDependable } from 'constructs';

/** What there is to know of a database: fromCluster and fromInstance know it of those of RDS. */
export interface Database {
  /** The name that AWS gave it: a cluster's or instance's endpoint, or that of an RDS Proxy. */
  readonly host: string;
  /** Default: 5432. */
  readonly port?: number;
  /** cluster-..., db-... or prx-...: what stands in a policy in place of the name. */
  readonly resourceId: string;
  /** Its security groups, if they should be opened for who connects. */
  readonly connections?: ec2.Connections;
  /** What has to be there before anybody can log in. */
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
    throw new Error(`${instance.node.path}: the instance was imported without its instanceResourceId (db-...)`);
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
 * A cluster with its instances, or an instance. Without their security group, which is not ready
 * before the services that it is opened for, and those may wait for the database users.
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
  /** Network mode awsvpc, as on Fargate: the application finds iamproxy at localhost:5432. */
  readonly taskDefinition: ecs.TaskDefinition;
  readonly image: ecs.ContainerImage;
  readonly database: Database;
  /** Who the application logs in as. */
  readonly users: string[];
  /** Further flags, as IAMPROXY_... variables. */
  readonly environment?: Record<string, string>;
  /** Default: CloudWatch Logs, with the stream prefix iamproxy. */
  readonly logging?: ecs.LogDriver;
}

/** iamproxy beside an application, and the right to log in for the role of both. */
export class IamproxySidecar extends Construct {
  readonly container: ecs.ContainerDefinition;
  private readonly database: Database;

  constructor(scope: Construct, id: string, props: IamproxySidecarProps) {
    super(scope, id);
    this.database = props.database;
    const { taskDefinition } = props;
    if (taskDefinition.networkMode !== ecs.NetworkMode.AWS_VPC) {
      Annotations.of(this).addError('containers share localhost only in the network mode awsvpc');
    }
    this.container = taskDefinition.addContainer('iamproxy', {
      containerName: 'iamproxy',
      image: props.image,
      essential: true,
      memoryReservationMiB: 64,
      environment: { IAMPROXY_ENDPOINTS: address(props.database), ...props.environment },
      healthCheck: {
        command: ['CMD', '/iamproxy', 'wait', '--timeout', '2s'],
        interval: Duration.seconds(5),
        timeout: Duration.seconds(3),
        retries: 10,
        startPeriod: Duration.seconds(30),
      },
      // Sessions may go on for 25 s after the signal to end.
      stopTimeout: Duration.seconds(30),
      logging: props.logging ?? ecs.LogDrivers.awsLogs({ streamPrefix: 'iamproxy' }),
      ...hardened(this),
    });
    taskDefinition.addToTaskRolePolicy(new iam.PolicyStatement({
      actions: ['rds-db:connect'],
      resources: checked(props.users).map((user) => Stack.of(this).formatArn({
        service: 'rds-db',
        resource: 'dbuser',
        resourceName: `${props.database.resourceId}/${user}`,
        arnFormat: ArnFormat.COLON_RESOURCE_NAME,
      })),
    }));
  }

  /** Lets a container start when iamproxy takes clients. It is stopped before iamproxy is. */
  startBefore(app: ecs.ContainerDefinition): void {
    app.addContainerDependencies({ container: this.container, condition: ecs.ContainerDependencyCondition.HEALTHY });
  }

  /** Opens the database's security groups for a service. */
  allowFrom(service: ec2.IConnectable): void {
    this.database.connections?.allowFrom(service, ec2.Port.tcp(port(this.database)));
  }
}

export interface DatabaseUsersProps {
  /** Where the task runs that creates them, on Fargate. */
  readonly cluster: ecs.ICluster;
  /** Default: private ones with a way out, which it needs for the image. */
  readonly subnets?: ec2.SubnetSelection;
  readonly image: ecs.ContainerImage;
  /** By the name that leads to the writer. */
  readonly database: Database;
  /** Users to create, unless they are there, and to grant rds_iam. */
  readonly users: string[];
  /** What they may do in a database, see docs/grant.md. Default: log in, and what others grant them. */
  readonly privileges?: { readonly database: string; readonly level: 'readonly' | 'readwrite' | 'owner' };
  /** Of the administrator, in JSON with username and password: a cluster's own secret. */
  readonly secret: secretsmanager.ISecret;
  /** Default: X86_64. */
  readonly cpuArchitecture?: ecs.CpuArchitecture;
}

/**
 * Database users that log in with tokens, created by a task that runs `iamproxy grant` when this
 * is deployed first and when the users or their privileges change. Nothing is ever taken away: users stay when they
 * are removed here, and when all of this is.
 */
export class DatabaseUsers extends Construct {
  readonly taskDefinition: ecs.FargateTaskDefinition;

  constructor(scope: Construct, id: string, props: DatabaseUsersProps) {
    super(scope, id);
    const { cluster, database } = props;
    const users = checked(props.users);
    const privileges = props.privileges ? [`--database=${props.privileges.database}`, `--privileges=${props.privileges.level}`] : [];
    // It outlives a deployment that is rolled back, since it has the reason.
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
      // A serverless cluster at rest takes its time.
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
      description: 'the task that creates database users',
    });
    // Not by way of database.connections: this task waits for these rules, and for no others.
    const rules = (database.connections?.securityGroups ?? []).map((group, n) => new ec2.CfnSecurityGroupIngress(this, `Ingress${n}`, {
      groupId: group.securityGroupId,
      sourceSecurityGroupId: securityGroup.securityGroupId,
      ipProtocol: 'tcp',
      fromPort: port(database),
      toPort: port(database),
      description: 'the task that creates database users',
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
    // A writer that is up, open doors, the policies of the task's roles, and a way to the image.
    resource.node.addDependency(this.taskDefinition, securityGroup, ...rules, logGroup, subnets.internetConnectivityEstablished,
      ...(database.ready ? [database.ready] : []));
  }

  /** Runs the task and waits for its end. */
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

/** What the container may not do. */
function hardened(scope: Construct): Pick<ecs.ContainerDefinitionOptions, 'user' | 'readonlyRootFilesystem' | 'linuxParameters'> {
  const linuxParameters = new ecs.LinuxParameters(scope, 'LinuxParameters');
  linuxParameters.dropCapabilities(ecs.Capability.ALL);
  return { user: '65532', readonlyRootFilesystem: true, linuxParameters };
}

function address(database: Database): string {
  return `${database.host}:${Token.asString(port(database))}`;
}

function port(database: Database): number {
  return database.port ?? 5432;
}

/** Users whose names stand for themselves, in a policy and on a command line. */
function checked(users: string[]): string[] {
  if (users.length === 0) {
    throw new Error('users: give at least one');
  }
  for (const user of users) {
    if (user === '' || /[*?$,\\]/.test(user) && !Token.isUnresolved(user)) {
      throw new Error(`users: '${user}' is not a name that can stand in a policy: it is empty or has one of * ? $ , \\`);
    }
  }
  return users;
}
