import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { containerOf, deployed, example, imported } from './stacks';

// These tests run the binary with the arguments and variables of the template.
const binary = process.env.BINARY ?? '';
assert.notEqual(binary, '', 'set BINARY to the path of the binary, as `make cdk-test` does');

const bare = {
  PATH: process.env.PATH,
  AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE',
  AWS_SECRET_ACCESS_KEY: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
  AWS_EC2_METADATA_DISABLED: 'true',
  AWS_ENDPOINT_URL_STS: 'http://127.0.0.1:1', // no STS
};

/** Returns the arguments and variables with which ECS starts the binary, the entry point of the image. */
function started(name: string) {
  const { container } = containerOf(example, name);
  const set = Object.fromEntries((container.Environment ?? []).map((variable: any) => [variable.Name, deployed(variable.Value)]));
  return { container, args: (container.Command ?? []).map(deployed) as string[], env: { ...bare, ...set } };
}

test('the sidecar starts, and exits with 0 when ECS stops it', { timeout: 60_000 }, async () => {
  const { args, env } = started('iamproxy');
  // Ports that no other process of this machine has. Older binaries have no --admin.
  args.push('--listen=127.0.0.1:0');
  if (/--admin[ =]/.test(execFileSync(binary, ['run', '--help'], { encoding: 'utf8' }))) {
    args.push('--admin=127.0.0.1:0');
  }
  const iamproxy = spawn(binary, args, { env, stdio: ['ignore', 'inherit', 'pipe'] });
  const ended = once(iamproxy, 'exit');
  let listening;
  const log: string[] = [];
  for await (const line of createInterface(iamproxy.stderr)) {
    log.push(line);
    const entry = JSON.parse(line);
    if (entry.msg === 'listening' && entry.endpoint) {
      listening = entry;
      iamproxy.kill('SIGTERM');
    }
  }
  assert.deepEqual(await ended, [0, null], log.join('\n'));
  assert.equal(listening?.endpoint, `${imported.host}:5432`, log.join('\n'));
  assert.equal(listening.region, 'eu-west-1');
});

test('the binary accepts the health check', () => {
  const [kind, program, ...args] = containerOf(example, 'iamproxy').container.HealthCheck.Command;
  assert.deepEqual([kind, program], ['CMD', '/iamproxy']);
  const { status, stderr } = spawnSync(binary, args, { env: bare, encoding: 'utf8' });
  assert.ok(status === 0 || status === 1, `exited with ${status}: ${stderr}`); // another process may listen there
});

test('the binary accepts the arguments of the task that creates the users', () => {
  const { container, args, env } = started('grant');
  assert.ok(container.Secrets.some(({ Name }: any) => Name === 'PGPASSWORD'));
  const out = execFileSync(binary, [...args, '--dry-run'], { env: { ...env, IAMPROXY_ADMIN_USER: 'boss' }, encoding: 'utf8' });
  assert.match(out, /^CREATE ROLE "app" LOGIN;.*\nGRANT rds_iam TO "app";.*\n(.*\n)*GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES /);
});
