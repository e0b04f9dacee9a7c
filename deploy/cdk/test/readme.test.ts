import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { aws_ecs as ecs, aws_lambda as lambda, aws_rds as rds } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';
import { DatabaseUsers, IamproxyExtension, IamproxySidecar, fromCluster } from '../lib/iamproxy';
import { containerOf, empty, imported } from './stacks';

/** Returns the one block of README.md in a language that contains a text. */
function block(language: string, text: string): string {
  const page = readFileSync('README.md', 'utf8');
  const found = [...page.matchAll(/^```(\w+)\n(.*?)^```$/gms)].filter(([, kind, code]) => kind === language && code!.includes(text));
  assert.equal(found.length, 1, `${language} with ${text}`);
  return found[0]![2]!;
}

test('the constructs of the page, in a stack', () => {
  const { stack, vpc, cluster: ecsCluster } = empty();
  const cluster = new rds.DatabaseCluster(stack, 'Cluster2', {
    engine: rds.DatabaseClusterEngine.auroraPostgres({ version: rds.AuroraPostgresEngineVersion.VER_17_4 }),
    iamAuthentication: true,
    writer: rds.ClusterInstance.serverlessV2('writer'),
    vpc,
  });
  const taskDefinition = new ecs.FargateTaskDefinition(stack, 'Task');
  const appContainer = taskDefinition.addContainer('app', { image: ecs.ContainerImage.fromRegistry('app') });
  const service = new ecs.FargateService(stack, 'Service', { cluster: ecsCluster, taskDefinition });
  const given = { ecs, DatabaseUsers, IamproxySidecar, fromCluster, cluster, ecsCluster, taskDefinition, appContainer, service };
  const code = block('ts', 'new IamproxySidecar').replace(/^import .*$/m, '').replace('secret!', 'secret'); // JavaScript
  new Function(...Object.keys(given), code).call(stack, ...Object.values(given));

  const template = Template.fromStack(stack);
  const { container } = containerOf(template, 'iamproxy');
  assert.equal(container.Image, 'ghcr.io/iamproxy/iamproxy:v1.2.3');
  assert.deepEqual(containerOf(template, 'app').container.DependsOn, [{ ContainerName: 'iamproxy', Condition: 'HEALTHY' }]);
  assert.ok(containerOf(template, 'grant').container.Command.includes('--privileges=readwrite'));
});

test('the extension of the page, in a stack', () => {
  const { stack } = empty();
  const dir = mkdtempSync(join(tmpdir(), 'iamproxy-cdk-'));
  try {
    const layer = join(dir, 'layer.zip');
    writeFileSync(layer, '');
    const fn = new lambda.Function(stack, 'Function', { runtime: lambda.Runtime.NODEJS_24_X, handler: 'index.handler', code: lambda.Code.fromInline('//') });
    const given = { lambda, IamproxyExtension, fn, database: imported };
    const code = block('ts', 'new IamproxyExtension').replace('iamproxy-lambda-amd64.zip', layer);
    new Function(...Object.keys(given), code).call(stack, ...Object.values(given));
    Template.fromStack(stack).resourceCountIs('AWS::Lambda::LayerVersion', 1);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('the commands of the page make an app of the example', () => {
  const dir = mkdtempSync(join(tmpdir(), 'iamproxy-cdk-'));
  try {
    for (const part of ['lib', 'example']) {
      cpSync(part, join(dir, 'iamproxy/deploy/cdk', part), { recursive: true });
    }
    // `cdk init` makes a directory lib, and much else.
    mkdirSync(join(dir, 'bin'));
    writeFileSync(join(dir, 'bin/npx'), '#!/bin/sh\nmkdir lib\n');
    chmodSync(join(dir, 'bin/npx'), 0o755);
    execFileSync('sh', ['-euc', block('sh', 'cdk init')], { cwd: dir, env: { PATH: `${dir}/bin:${process.env.PATH}` } });
    const stack = readFileSync(join(dir, 'myapp/lib/myapp-stack.ts'), 'utf8');
    for (const want of ['export interface MyappProps ', 'export class MyappStack ', 'props: MyappProps', "from './iamproxy/iamproxy'"]) {
      assert.ok(stack.includes(want), want);
    }
    assert.ok(!/Example/.test(stack), 'Example is left');
    readFileSync(join(dir, 'myapp/lib/iamproxy/iamproxy.ts'));
    const property = /iamproxyTag/;
    assert.match(stack, property);
    assert.match(block('ts', 'new MyappStack'), property);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
