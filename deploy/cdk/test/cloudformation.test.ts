import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { App, Stack } from 'aws-cdk-lib';
import { CfnInclude } from 'aws-cdk-lib/cloudformation-include';

const template = readFileSync('../cloudformation/service.yaml', 'utf8');
const shared = readFileSync('../cloudformation/shared.yaml', 'utf8');

/** Checks a template with the schemas and rules of CloudFormation that the CDK has. */
function validate(text: string, parameters: Record<string, string>): void {
  const dir = mkdtempSync(join(tmpdir(), 'iamproxy-cdk-'));
  try {
    const templateFile = join(dir, 'service.yaml');
    writeFileSync(templateFile, text);
    const app = new App({ outdir: join(dir, 'out'), context: { '@aws-cdk/core:validateAgainstDefaultRules': true } });
    new CfnInclude(new Stack(app, 'Test'), 'Template', { templateFile, parameters });
    app.synth();
  } finally {
    rmSync(dir, { recursive: true });
  }
}

test('CloudFormation has all properties of the template', () => {
  validate(template, { NetworkMode: 'awsvpc' });
  validate(template, { NetworkMode: 'bridge' });
  validate(shared, {});
});

test('a mistyped property in the template is an error', () => {
  const mistakes: [string, string, string][] = [
    [template, 'StopTimeout', 'StopTimeOut'], [template, 'SourceSecurityGroupId', 'SourceSecurityGroup'],
    [shared, 'HealthCheckPath', 'HealthCheckpath'], [shared, 'MaximumPercent', 'MaxPercent'],
  ];
  for (const [text, property, mistyped] of mistakes) {
    const wrong = text.replaceAll(property, mistyped);
    assert.notEqual(wrong, text);
    assert.throws(() => validate(wrong, text === template ? { NetworkMode: 'awsvpc' } : {}), mistyped);
  }
});
