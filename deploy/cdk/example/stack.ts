import {
  Stack, type StackProps,
  aws_ec2 as ec2, aws_ecr as ecr, aws_ecs as ecs, aws_rds as rds,
} from 'aws-cdk-lib';
import type { Construct } from 'constructs';
import { DatabaseUsers, IamproxySidecar, fromCluster } from '../lib/iamproxy';

export interface ExampleProps extends StackProps {
  /** Tag of the image in the Amazon ECR repository iamproxy. */
  readonly iamproxyTag: string;
}

/** An Aurora cluster and a service that logs in to it without a password. */
export class Example extends Stack {
  constructor(scope: Construct, id: string, props: ExampleProps) {
    super(scope, id, props);
    const vpc = new ec2.Vpc(this, 'Vpc', { maxAzs: 2, natGateways: 1 });
    const db = new rds.DatabaseCluster(this, 'Database', {
      engine: rds.DatabaseClusterEngine.auroraPostgres({ version: rds.AuroraPostgresEngineVersion.VER_17_4 }),
      credentials: rds.Credentials.fromGeneratedSecret('postgres'),
      defaultDatabaseName: 'mydb',
      iamAuthentication: true,
      writer: rds.ClusterInstance.serverlessV2('writer'),
      serverlessV2MinCapacity: 0.5,
      serverlessV2MaxCapacity: 2,
      storageEncrypted: true,
      vpc,
    });
    const cluster = new ecs.Cluster(this, 'Cluster', { vpc });

    // iamproxy: the users, the sidecar, and the application beside it.
    const database = fromCluster(db);
    const repository = ecr.Repository.fromRepositoryName(this, 'Repository', 'iamproxy');
    const image = ecs.ContainerImage.fromEcrRepository(repository, props.iamproxyTag);
    const users = new DatabaseUsers(this, 'Users', {
      cluster, image, database, users: ['app'], privileges: { database: 'mydb', level: 'readwrite' }, secret: db.secret!,
    });

    const taskDefinition = new ecs.FargateTaskDefinition(this, 'Task');
    const sidecar = new IamproxySidecar(this, 'Iamproxy', { taskDefinition, image, database, users: ['app'] });
    const app = taskDefinition.addContainer('app', {
      image: ecs.ContainerImage.fromRegistry('public.ecr.aws/docker/library/postgres:17'),
      command: ['sh', '-c', 'while psql -c "select now(), session_user"; do sleep 60; done'],
      environment: { PGHOST: 'localhost', PGUSER: 'app', PGDATABASE: 'mydb' },
      logging: ecs.LogDrivers.awsLogs({ streamPrefix: 'app' }),
    });
    sidecar.startBefore(app);

    const service = new ecs.FargateService(this, 'Service', {
      cluster, taskDefinition, desiredCount: 1, minHealthyPercent: 100, circuitBreaker: { rollback: true },
    });
    sidecar.allowFrom(service);
    service.node.addDependency(users);
  }
}
