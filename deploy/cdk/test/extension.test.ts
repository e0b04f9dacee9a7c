import { test } from 'node:test';
import { aws_ecr as ecr, aws_lambda as lambda, aws_rds as rds } from 'aws-cdk-lib';
import { Match, Template } from 'aws-cdk-lib/assertions';
import { IamproxyExtension, fromCluster } from '../lib/iamproxy';
import { empty, imported } from './stacks';

const layerARN = 'arn:aws:lambda:eu-west-1:111122223333:layer:iamproxy:1';

/** Returns a stack with a function, in a VPC or not, and the layer. */
function functionIn(inVPC: boolean) {
  const { stack, vpc } = empty();
  const fn = new lambda.Function(stack, 'Function', {
    runtime: lambda.Runtime.NODEJS_24_X, handler: 'index.handler', code: lambda.Code.fromInline('exports.handler = async () => {};'),
    vpc: inVPC ? vpc : undefined,
  });
  return { stack, vpc, fn, layer: lambda.LayerVersion.fromLayerVersionArn(stack, 'Layer', layerARN) };
}

test('the function has the layer, the variables and the permission', () => {
  const { stack, fn, layer } = functionIn(false);
  new IamproxyExtension(stack, 'Iamproxy', { function: fn, layer, database: imported, users: ['app'], environment: { IAMPROXY_POOL: '2' } });
  const template = Template.fromStack(stack);
  template.hasResourceProperties('AWS::Lambda::Function', {
    Layers: [layerARN],
    Environment: { Variables: { IAMPROXY_ENDPOINTS: `${imported.host}:${imported.port}`, IAMPROXY_POOL: '2', PGHOST: 'localhost' } },
  });
  template.hasResourceProperties('AWS::IAM::Policy', {
    PolicyDocument: {
      Statement: [Match.objectLike({
        Action: 'rds-db:connect',
        Resource: { 'Fn::Join': ['', ['arn:', { Ref: 'AWS::Partition' }, ':rds-db:eu-west-1:111122223333:dbuser:cluster-ABCDEFGHIJKL01234/app']] },
      })],
    },
  });
});

test('a container image has no layer', () => {
  const { stack } = empty();
  const code = lambda.DockerImageCode.fromEcr(ecr.Repository.fromRepositoryName(stack, 'Repository', 'function'));
  const fn = new lambda.DockerImageFunction(stack, 'Function', { code });
  new IamproxyExtension(stack, 'Iamproxy', { function: fn, database: imported, users: ['app'] });
  Template.fromStack(stack).hasResourceProperties('AWS::Lambda::Function', {
    Layers: Match.absent(), Environment: { Variables: { PGHOST: 'localhost' } },
  });
});

test('the database allows a function in its VPC', () => {
  const { stack, vpc, fn, layer } = functionIn(true);
  const cluster = new rds.DatabaseCluster(stack, 'Database', {
    engine: rds.DatabaseClusterEngine.auroraPostgres({ version: rds.AuroraPostgresEngineVersion.VER_17_4 }),
    writer: rds.ClusterInstance.serverlessV2('writer'), vpc, iamAuthentication: true,
  });
  new IamproxyExtension(stack, 'Iamproxy', { function: fn, layer, database: fromCluster(cluster), users: ['app'] });
  Template.fromStack(stack).hasResourceProperties('AWS::EC2::SecurityGroupIngress', {
    SourceSecurityGroupId: { 'Fn::GetAtt': [Match.stringLikeRegexp('^Function'), 'GroupId'] },
  });
});
