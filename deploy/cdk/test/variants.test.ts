import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { aws_ecs as ecs, aws_logs as logs } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';
import { Construct } from 'constructs';
import { IamproxySidecar, type IamproxySidecarProps } from '../lib/iamproxy';
import { empty, imported } from './stacks';

// The task definitions of deploy/ecs, with the JSON of docs/ecs-options.md. The tests of deploy/ecs
// compare those of Terraform and CloudFormation with the same.

const bridge = new Set(['bridge']);
const variants: Record<string, { file?: string; section?: string; task?: object; props?: Partial<IamproxySidecarProps> }> = {
  default: {},
  memory: { section: 'Memory', props: { memoryReservationMiB: 128 } },
  'open files': { section: 'Open files', props: { nofile: 65536 } },
  ARM64: { section: 'Graviton (ARM64)', task: { runtimePlatform: { cpuArchitecture: ecs.CpuArchitecture.ARM64, operatingSystemFamily: ecs.OperatingSystemFamily.LINUX } } },
  'fast start': { section: 'Faster start, and fewer health checks', props: { fastStart: true } },
  FireLens: {
    file: 'task-definition-firelens.json',
    props: {
      logging: ecs.LogDrivers.firelens({ options: { Name: 'cloudwatch_logs', region: 'eu-west-1', log_group_name: '/ecs/app', log_stream_prefix: 'ecs/' } }),
    },
  },
  bridge: { file: 'task-definition-bridge.json' },
};

/** The template of a stack with the tasks of all variants, whose families have their names. */
const template = (() => {
  const { stack, image } = empty();
  const logGroup = logs.LogGroup.fromLogGroupName(stack, 'Log', '/ecs/app');
  for (const [family, { task, props }] of Object.entries(variants)) {
    const scope = new Construct(stack, family);
    const taskDefinition = bridge.has(family)
      ? new ecs.Ec2TaskDefinition(scope, 'Task', { family })
      : new ecs.FargateTaskDefinition(scope, 'Task', { family, cpu: 256, memoryLimitMiB: 512, ...platform(ecs.CpuArchitecture.X86_64), ...task });
    const logging = ecs.LogDrivers.awsLogs({ streamPrefix: 'ecs', logGroup, mode: ecs.AwsLogDriverMode.NON_BLOCKING });
    const sidecar = new IamproxySidecar(scope, 'Iamproxy', { taskDefinition, image, database: { ...imported, port: 5432 }, users: ['app'], logging, ...props });
    sidecar.startBefore(taskDefinition.addContainer('app', { image: ecs.ContainerImage.fromRegistry('app'), memoryLimitMiB: 256 }));
  }
  return Template.fromStack(stack);
})();

for (const [name, { file = 'task-definition.json', section }] of Object.entries(variants)) {
  test(`${name}: the task of the construct is that of deploy/ecs`, () => {
    const [resource] = Object.values(template.findResources('AWS::ECS::TaskDefinition', { Properties: { Family: name } }));
    const got = api(resource!.Properties) as Task;
    const want = JSON.parse(readFileSync(`../ecs/${file}`, 'utf8')) as Task;
    for (const block of section ? blocks(section) : []) {
      apply(want, block);
    }
    named(want, 'iamproxy').environment[0].value += ':5432';
    assert.deepEqual(got.networkMode, want.networkMode);
    assert.deepEqual(got.volumes, want.volumes);
    if (!bridge.has(name)) {
      assert.deepEqual([got.cpu, got.memory, got.runtimePlatform], [want.cpu, want.memory, want.runtimePlatform]);
    }
    for (const container of ['iamproxy', 'iamproxy-ready']) {
      assert.deepEqual(named(got, container), named(want, container));
    }
    const { dependsOn, mountPoints } = named(got, 'app');
    assert.deepEqual({ dependsOn, mountPoints }, { dependsOn: named(want, 'app').dependsOn, mountPoints: named(want, 'app').mountPoints });
    // The CDK adds another log router.
    assert.equal(got.containerDefinitions.some((c) => c.firelensConfiguration), name === 'FireLens');
  });
}

interface Task extends Record<string, unknown> {
  containerDefinitions: Record<string, any>[];
}

function platform(cpuArchitecture: ecs.CpuArchitecture) {
  return { runtimePlatform: { cpuArchitecture, operatingSystemFamily: ecs.OperatingSystemFamily.LINUX } };
}

function named(task: Task, name: string): any {
  return task.containerDefinitions.find((container) => container.name === name);
}

/** Returns properties in the form of the API, whose names begin with a small letter. */
function api(value: any): unknown {
  if (Array.isArray(value)) {
    return value.map(api);
  }
  if (typeof value !== 'object') {
    return value;
  }
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [
    name[0]!.toLowerCase() + name.slice(1), ['Options', 'DriverOpts'].includes(name) ? field : api(field),
  ]));
}

/** Returns the JSON below a heading of docs/ecs-options.md. */
function blocks(heading: string): Record<string, any>[] {
  const page = readFileSync('../../docs/ecs-options.md', 'utf8');
  const section = page.split(`\n## ${heading}\n`)[1]!.split('\n## ')[0]!;
  return [...section.matchAll(/^```json\n([^]*?)^```$/gm)].map(([, text]) => JSON.parse(text!.startsWith('{') ? text! : `{${text}}`));
}

/** Adds a block to a task: a container, or fields of the task, of the application or of iamproxy. */
function apply(task: Task, block: Record<string, any>): void {
  if (block.name) {
    task.containerDefinitions.push(block);
  } else {
    Object.assign(block.runtimePlatform ? task : named(task, block.dependsOn ? 'app' : 'iamproxy'), block);
  }
}
