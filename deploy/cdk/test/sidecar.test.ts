import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Stack, aws_ecs as ecs, aws_rds as rds } from 'aws-cdk-lib';
import { Annotations, Match, Template } from 'aws-cdk-lib/assertions';
import { IamproxySidecar, fromCluster, fromInstance } from '../lib/iamproxy';
import { containerOf, deployed, empty, example, image, imported } from './stacks';

test('the container has few rights and a health check', () => {
  const { container } = containerOf(example, 'iamproxy');
  assert.deepEqual(deployed(container.Environment[0].Value), `${imported.host}:5432`);
  assert.equal(deployed(container.Image), image);
  delete container.Environment;
  delete container.Image;
  container.LogConfiguration = container.LogConfiguration.LogDriver;
  assert.deepEqual(container, {
    Name: 'iamproxy',
    Essential: true,
    MemoryReservation: 64,
    User: '65532:65532',
    ReadonlyRootFilesystem: true,
    LinuxParameters: { Capabilities: { Drop: ['ALL'] } },
    HealthCheck: { Command: ['CMD', '/iamproxy', 'wait', '--timeout', '2s'], Interval: 10, Timeout: 5, Retries: 5, StartPeriod: 30 },
    StopTimeout: 30,
    LogConfiguration: 'awslogs',
  });
});

test('the application starts when iamproxy is healthy', () => {
  const { container } = containerOf(example, 'app');
  assert.deepEqual(container.DependsOn, [{ ContainerName: 'iamproxy', Condition: 'HEALTHY' }]);
});

test('the task role may log in only as the users', () => {
  const { task } = containerOf(example, 'iamproxy');
  const arn = (end: unknown[]) => ({ 'Fn::Join': ['', ['arn:', { Ref: 'AWS::Partition' }, ':rds-db:', { Ref: 'AWS::Region' }, ':', { Ref: 'AWS::AccountId' }, ':dbuser:', ...end]] });
  example.hasResourceProperties('AWS::IAM::Policy', {
    Roles: [{ Ref: task.TaskRoleArn['Fn::GetAtt'][0] }],
    PolicyDocument: {
      Statement: [{
        Action: 'rds-db:connect',
        Effect: 'Allow',
        Resource: arn([{ 'Fn::GetAtt': [Match.stringLikeRegexp('^Database'), 'DBClusterResourceId'] }, '/app']),
      }],
    },
  });

  const { stack, image } = empty();
  const taskDefinition = new ecs.FargateTaskDefinition(stack, 'Task');
  new IamproxySidecar(stack, 'Iamproxy', { taskDefinition, image, database: imported, users: ['app', 'report'], environment: { IAMPROXY_LOG_LEVEL: 'debug' } });
  const template = Template.fromStack(stack);
  template.hasResourceProperties('AWS::IAM::Policy', {
    PolicyDocument: {
      Statement: [Match.objectLike({
        Resource: ['app', 'report'].map((user) => ({
          'Fn::Join': ['', ['arn:', { Ref: 'AWS::Partition' }, `:rds-db:eu-west-1:111122223333:dbuser:cluster-ABCDEFGHIJKL01234/${user}`]],
        })),
      })],
    },
  });
  assert.deepEqual(containerOf(template, 'iamproxy').container.Environment, [
    { Name: 'IAMPROXY_ENDPOINTS', Value: `${imported.host}:5433` },
    { Name: 'IAMPROXY_LOG_LEVEL', Value: 'debug' },
  ]);
});

test('the database allows the service and the task that creates users', () => {
  const rules = Object.values(example.findResources('AWS::EC2::SecurityGroupIngress')).map(({ Properties: rule }) => {
    assert.equal(rule.FromPort['Fn::GetAtt'][1], 'Endpoint.Port');
    return rule.SourceSecurityGroupId['Fn::GetAtt'][0].replace(/SecurityGroup.*/, '');
  });
  assert.deepEqual(rules.sort(), ['Service', 'Users']);
});

test('names with a special meaning in a policy are an error', () => {
  for (const users of [[], [''], ['*'], ['a?'], ['${aws:username}'], ['a,b'], ['app', 'a*']]) {
    const { stack, image } = empty();
    const taskDefinition = new ecs.FargateTaskDefinition(stack, 'Task');
    assert.throws(() => new IamproxySidecar(stack, 'Iamproxy', { taskDefinition, image, database: imported, users }), /^Error: users: /);
  }
});

test('settings that exclude each other are errors', () => {
  const awsvpc = { networkMode: ecs.NetworkMode.AWS_VPC };
  for (const [task, props, want] of [
    [{ networkMode: ecs.NetworkMode.HOST }, {}, 'iamproxy needs the network mode awsvpc or bridge'],
    [{ networkMode: ecs.NetworkMode.BRIDGE }, { fastStart: true }, 'fastStart needs the network mode awsvpc, and excludes FireLens'],
    [awsvpc, { fastStart: true, logging: ecs.LogDrivers.firelens({}) }, 'fastStart needs the network mode awsvpc, and excludes FireLens'],
  ] as [ecs.Ec2TaskDefinitionProps, object, string][]) {
    const { stack, image } = empty();
    const taskDefinition = new ecs.Ec2TaskDefinition(stack, 'Task', task);
    new IamproxySidecar(stack, 'Iamproxy', { taskDefinition, image, database: imported, users: ['app'], ...props });
    Annotations.fromStack(stack).hasError('/Test/Iamproxy', want);
  }
});

test('host, port and resource ID come from the RDS constructs', () => {
  const { stack, vpc } = empty();
  const instance = new rds.DatabaseInstance(stack, 'Instance', { engine: rds.DatabaseInstanceEngine.POSTGRES, vpc });
  const database = fromInstance(instance);
  const shown = Stack.of(instance).resolve([database.host, database.port, database.resourceId]);
  assert.deepEqual(shown.map((value: any) => value['Fn::GetAtt'][1]), ['Endpoint.Address', 'Endpoint.Port', 'DbiResourceId']);

  const named = { endpointAddress: 'x', instanceEndpointAddress: 'x', port: 1, securityGroups: [] };
  const cluster = rds.DatabaseCluster.fromDatabaseClusterAttributes(stack, 'Cluster2', { clusterIdentifier: 'x', clusterEndpointAddress: 'x', port: 1 });
  assert.throws(() => fromCluster(cluster), /clusterResourceIdentifier/);
  const unknown = rds.DatabaseInstance.fromDatabaseInstanceAttributes(stack, 'Instance2', { instanceIdentifier: 'x', ...named });
  assert.throws(() => fromInstance(unknown), /instanceResourceId/);
});
