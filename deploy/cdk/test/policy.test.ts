import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { aws_iam as iam } from 'aws-cdk-lib';

const binary = process.env.BINARY ?? '';
assert.notEqual(binary, '', 'set BINARY to the path of the binary, as `make cdk-test` does');

function policy(format: string, ...args: string[]): string {
  const given = ['--account=111122223333', `--format=${format}`, ...args];
  return execFileSync(binary, ['policy', ...given], { env: {}, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
}

/** Returns the statements that `iamproxy policy` prints, evaluated as pasted code. */
function statements(...args: string[]): iam.PolicyStatement[] {
  return new Function('iam', `return [${policy('cdk', ...args)}]`)(iam);
}

test('the statements of iamproxy policy equal those of its document', () => {
  const host = 'mydb.cluster-cabcdefghijk.eu-west-1.rds.amazonaws.com';
  const dsql = 'abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws';
  const odd = ['app', '*', '${aws:username}', '${Token[TOKEN.1]}', '`a`', "'", '"', '\\', '%{', 'é', '</script>'];
  for (const args of [
    [host, '--resource-id=cluster-ABCDEFGHIJKL01234', ...odd.map((user) => `--user=${user.replaceAll('\\', '\\\\')}`)],
    [`${dsql}?user=app`, `${dsql}?user=admin`],
  ]) {
    const made = new iam.PolicyDocument({ statements: statements(...args) }).toJSON();
    const printed = JSON.parse(policy('json', ...args));
    const plain = ({ Resource, ...rest }: any) => ({ ...rest, Resource: [Resource].flat() });
    assert.deepEqual(made.Statement.map(plain), printed.Statement);
  }
});
