import assert from 'node:assert/strict';
import { beforeEach, mock, test } from 'node:test';
import { DescribeTasksCommand, ECSClient, RunTaskCommand } from '@aws-sdk/client-ecs';
import { isComplete, onEvent } from '../lib/handler/index.mjs';

const task = 'arn:aws:ecs:eu-west-1:111122223333:task/main/0123456789abcdef';
const ResourceProperties = {
  Database: 'mydb.example:5432',
  Users: ['app', 'report'],
  Privileges: ['--database=mydb', '--privileges=readonly'],
  Cluster: 'arn:aws:ecs:eu-west-1:111122223333:cluster/main',
  TaskDefinition: 'arn:aws:ecs:eu-west-1:111122223333:task-definition/grant:1',
  Subnets: ['subnet-1', 'subnet-2'],
  SecurityGroup: 'sg-1',
  AssignPublicIp: 'DISABLED',
  LogGroup: '/grant',
};
const created = { RequestType: 'Create', RequestId: 'b1946ac9-2b6e-4e0c-9d38-0123456789ab', ResourceProperties };

// Requests to ECS, and its response.
let asked, answer;
mock.method(ECSClient.prototype, 'send', async (command) => {
  asked.push(command);
  return answer;
});
beforeEach(() => {
  asked = [];
  answer = undefined;
});

test('a creation runs the task, once for each request', async () => {
  answer = { tasks: [{ taskArn: task }], failures: [] };
  assert.deepEqual(await onEvent(created), { Data: { Task: task } });
  assert.equal(asked.length, 1);
  assert.ok(asked[0] instanceof RunTaskCommand);
  assert.deepEqual(asked[0].input, {
    cluster: ResourceProperties.Cluster,
    taskDefinition: ResourceProperties.TaskDefinition,
    launchType: 'FARGATE',
    count: 1,
    clientToken: created.RequestId,
    networkConfiguration: { awsvpcConfiguration: { subnets: ['subnet-1', 'subnet-2'], securityGroups: ['sg-1'], assignPublicIp: 'DISABLED' } },
  });
});

test('an update runs it for other users, other privileges and another database', async () => {
  answer = { tasks: [{ taskArn: task }] };
  for (const old of [{ Users: ['app'] }, { Users: ['report', 'app', 'x'] }, { Database: 'other.example:5432' }, { Privileges: [] }]) {
    const event = { ...created, RequestType: 'Update', OldResourceProperties: { ...ResourceProperties, ...old } };
    assert.deepEqual(await onEvent(event), { Data: { Task: task } });
  }
  assert.equal(asked.length, 4);
});

test('another image does not run it', async () => {
  const old = { ...ResourceProperties, TaskDefinition: 'arn:aws:ecs:eu-west-1:111122223333:task-definition/grant:0' };
  const event = { ...created, RequestType: 'Update', OldResourceProperties: old };
  const done = await onEvent(event);
  assert.deepEqual(await isComplete({ ...event, ...done }), { IsComplete: true });
  assert.equal(asked.length, 0);
});

test('a deletion changes nothing', async () => {
  const event = { ...created, RequestType: 'Delete' };
  const done = await onEvent(event);
  assert.deepEqual(await isComplete({ ...event, ...done }), { IsComplete: true });
  assert.equal(asked.length, 0);
});

test('a task that cannot start is an error with the reason', async () => {
  answer = { tasks: [], failures: [{ reason: 'RESOURCE:FARGATE', detail: 'no capacity' }, { reason: 'AGENT' }] };
  await assert.rejects(onEvent(created), /could not start the task that creates the database users: RESOURCE:FARGATE: no capacity; AGENT$/);
  answer = {};
  await assert.rejects(onEvent(created), /: ECS returned no reason$/);
});

const started = { ...created, Data: { Task: task } };

test('the resource is complete when the task has stopped', async () => {
  for (answer of [{ tasks: [], failures: [{ reason: 'MISSING' }] }, { tasks: [{ lastStatus: 'PENDING' }] }, { tasks: [{ lastStatus: 'DEPROVISIONING' }] }]) {
    assert.deepEqual(await isComplete(started), { IsComplete: false });
  }
  assert.ok(asked[0] instanceof DescribeTasksCommand);
  assert.deepEqual(asked[0].input, { cluster: ResourceProperties.Cluster, tasks: [task] });
  answer = stopped({ exitCode: 0 });
  assert.deepEqual(await isComplete(started), { IsComplete: true });
});

test('a task that failed is an error that names the log stream', async () => {
  answer = stopped({ exitCode: 1 });
  await assert.rejects(isComplete(started), {
    message: 'could not create the database users: exit code 1; Essential container in task exited; ' +
      'see the log group /grant, stream iamproxy/grant/0123456789abcdef',
  });
  answer = stopped({ exitCode: 137, reason: 'OutOfMemoryError' });
  await assert.rejects(isComplete(started), /exit code 137; OutOfMemoryError; Essential/);
  answer = stopped({ reason: 'CannotPullContainerError: no such image' });
  await assert.rejects(isComplete(started), /the task did not start; CannotPullContainerError: no such image; Essential/);
  answer = { tasks: [{ lastStatus: 'STOPPED', stoppedReason: 'ResourceInitializationError: no secret' }] };
  await assert.rejects(isComplete(started), /the task did not start; ResourceInitializationError: no secret; see/);
});

function stopped(container) {
  return { tasks: [{ lastStatus: 'STOPPED', stoppedReason: 'Essential container in task exited', containers: [{ name: 'grant', ...container }] }] };
}
