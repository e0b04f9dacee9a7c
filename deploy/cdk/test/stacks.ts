import { App, Stack, aws_ec2 as ec2, aws_ecs as ecs } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';
import { Example } from '../example/stack';

export const image = '111122223333.dkr.ecr.eu-west-1.amazonaws.com/iamproxy:v1.2.3';

/** The CloudFormation template of the example. */
export const example = Template.fromStack(new Example(new App(), 'IamproxyExample', { iamproxyTag: 'v1.2.3' }));

/** An imported database. */
export const imported = {
  host: 'mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com',
  port: 5433,
  resourceId: 'cluster-ABCDEFGHIJKL01234',
};

/** Returns an empty stack, and constructs for tests. */
export function empty() {
  const stack = new Stack(new App(), 'Test', { env: { account: '111122223333', region: 'eu-west-1' } });
  const vpc = new ec2.Vpc(stack, 'Vpc');
  return { stack, vpc, cluster: new ecs.Cluster(stack, 'Cluster', { vpc }), image: ecs.ContainerImage.fromRegistry('ghcr.io/iamproxy/iamproxy:v1.2.3') };
}

/** Returns a container of the template, and its task definition. */
export function containerOf(template: Template, name: string) {
  for (const { Properties: task } of Object.values(template.findResources('AWS::ECS::TaskDefinition'))) {
    for (const container of task.ContainerDefinitions) {
      if (container.Name === name) {
        return { task, container };
      }
    }
  }
  throw new Error(`no container ${name}`);
}

/** Returns the value of an expression of the template after a deployment. */
export function deployed(value: any): string {
  if (typeof value === 'string') {
    return value;
  }
  if (value['Fn::Join']) {
    const [separator, parts] = value['Fn::Join'];
    return parts.map(deployed).join(separator);
  }
  switch (value.Ref ?? value['Fn::GetAtt']?.[1]) {
    case 'AWS::AccountId':
      return '111122223333';
    case 'AWS::Region':
      return 'eu-west-1';
    case 'AWS::URLSuffix':
      return 'amazonaws.com';
    case 'Endpoint.Address':
      return imported.host;
    case 'Endpoint.Port':
      return '5432';
  }
  throw new Error(`no value for ${JSON.stringify(value)}`);
}
