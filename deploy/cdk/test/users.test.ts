import assert from 'node:assert/strict';
import { test } from 'node:test';
import { aws_secretsmanager as secretsmanager } from 'aws-cdk-lib';
import { Match, Template } from 'aws-cdk-lib/assertions';
import { DatabaseUsers } from '../lib/iamproxy';
import { containerOf, deployed, empty, example, image, imported } from './stacks';

test('the task runs iamproxy grant with the secret', () => {
  const { task, container } = containerOf(example, 'grant');
  assert.equal(deployed(container.Image), image);
  assert.deepEqual(container.Command.map(deployed), ['grant', `${imported.host}:5432`, '--timeout=2m', '--user=app', '--database=mydb', '--privileges=readwrite']);
  assert.equal(container.Environment, undefined);
  assert.deepEqual(container.Secrets.map((secret: any) => secret.Name), ['IAMPROXY_ADMIN_USER', 'PGPASSWORD']);
  assert.deepEqual(container.Secrets.map((secret: any) => secret.ValueFrom['Fn::Join'][1].at(-1)), [':username::', ':password::']);
  assert.deepEqual([container.User, container.ReadonlyRootFilesystem, container.LinuxParameters], ['65532:65532', true, { Capabilities: { Drop: ['ALL'] } }]);
  assert.deepEqual(task.RequiresCompatibilities, ['FARGATE']);
  // It signs nothing, so its role has no policy.
  const role = { Ref: task.TaskRoleArn['Fn::GetAtt'][0] };
  assert.deepEqual(example.findResources('AWS::IAM::Policy', { Properties: { Roles: [role] } }), {});
});

test('the custom resource depends on what the task needs', () => {
  const [id, resource] = only(example, 'Custom::IamproxyDatabaseUsers');
  assert.deepEqual(resource.Properties.Users, ['app']);
  assert.deepEqual(resource.Properties.Privileges, ['--database=mydb', '--privileges=readwrite']);
  assert.equal(deployed(resource.Properties.Database), `${imported.host}:5432`);
  assert.equal(resource.Properties.AssignPublicIp, 'DISABLED');
  assert.equal(resource.Properties.Subnets.length, 2);
  const needs = (type: string, pattern: RegExp) => {
    const named = Object.keys(example.findResources(type)).filter((name) => pattern.test(name));
    assert.ok(named.length > 0, `no ${type} like ${pattern}`);
    for (const name of named) {
      assert.ok(resource.DependsOn.includes(name), `it does not depend on ${name}`);
    }
  };
  needs('AWS::RDS::DBCluster', /./);
  needs('AWS::RDS::DBInstance', /./);
  needs('AWS::EC2::SecurityGroupIngress', /^Users/);
  needs('AWS::IAM::Policy', /^UsersTaskExecutionRole/);
  needs('AWS::EC2::Route', /Private/);
  const [, service] = only(example, 'AWS::ECS::Service');
  assert.ok(service.DependsOn.includes(id), 'the service does not depend on the users');
});

test('the functions may only run this task and wait for it', () => {
  const statements = Object.entries(example.findResources('AWS::IAM::Policy'))
    .filter(([name]) => /^Users(Run|Wait)/.test(name))
    .flatMap(([, policy]) => policy.Properties.PolicyDocument.Statement);
  assert.deepEqual(statements.map(({ Action }) => Action).sort(), ['ecs:DescribeTasks', 'ecs:RunTask', 'iam:PassRole']);
  for (const { Action, Resource, Condition } of statements) {
    const resource = JSON.stringify(Resource);
    switch (Action) {
      case 'ecs:RunTask':
        assert.match(resource, /^{"Ref":"UsersTask[^"]*"}$/);
        assert.deepEqual(Object.keys(Condition.ArnEquals), ['ecs:cluster']);
        break;
      case 'ecs:DescribeTasks':
        assert.match(resource, /:task\/",{"Ref":"Cluster[^"]*"},"\/\*"/);
        break;
      case 'iam:PassRole':
        assert.equal(Resource.length, 2);
        assert.deepEqual(Condition, { StringEquals: { 'iam:PassedToService': 'ecs-tasks.amazonaws.com' } });
    }
  }
});

test('an imported database, and public subnets', () => {
  const { stack, vpc, cluster, image } = empty();
  const secret = secretsmanager.Secret.fromSecretNameV2(stack, 'Secret', 'mydb');
  new DatabaseUsers(stack, 'Users', { cluster, image, secret, database: imported, users: ['a', 'b c'], subnets: { subnets: vpc.publicSubnets } });
  const template = Template.fromStack(stack);
  template.hasResourceProperties('Custom::IamproxyDatabaseUsers', { AssignPublicIp: 'ENABLED', Database: `${imported.host}:5433`, Users: ['a', 'b c'] });
  template.resourceCountIs('AWS::EC2::SecurityGroupIngress', 0);
  template.hasResourceProperties('AWS::ECS::TaskDefinition', {
    ContainerDefinitions: [Match.objectLike({ Command: ['grant', `${imported.host}:5433`, '--timeout=2m', '--user=a', '--user=b c'] })],
  });
});

function only(template: Template, type: string): [string, Record<string, any>] {
  const found = Object.entries(template.findResources(type));
  assert.equal(found.length, 1, type);
  return found[0]!;
}
