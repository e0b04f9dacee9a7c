// Runs the ECS task that creates the database users, and waits for its end, for AWS CloudFormation.
// See "Asynchronous providers" of aws-cdk-lib/custom-resources.
import { DescribeTasksCommand, ECSClient, RunTaskCommand } from '@aws-sdk/client-ecs';

const ecs = new ECSClient();

// Starts the task if the users, their privileges or the database have changed.
export async function onEvent(event) {
  const wanted = event.ResourceProperties;
  if (event.RequestType === 'Delete') {
    console.log('the database users are kept');
    return {};
  }
  if (event.RequestType === 'Update' && same(wanted, event.OldResourceProperties)) {
    console.log('users, privileges and database have not changed');
    return {};
  }
  const { tasks = [], failures = [] } = await ecs.send(new RunTaskCommand({
    cluster: wanted.Cluster,
    taskDefinition: wanted.TaskDefinition,
    launchType: 'FARGATE',
    count: 1,
    clientToken: event.RequestId, // this function may be retried
    networkConfiguration: {
      awsvpcConfiguration: {
        subnets: wanted.Subnets,
        securityGroups: [wanted.SecurityGroup],
        assignPublicIp: wanted.AssignPublicIp,
      },
    },
  }));
  if (tasks.length === 0) {
    throw new Error(`could not start the task that creates the database users: ${failures.map(reason).join('; ') || 'ECS returned no reason'}`);
  }
  return { Data: { Task: tasks[0].taskArn } };
}

// Returns whether the task has stopped. Throws if it failed.
export async function isComplete(event) {
  const task = event.Data?.Task;
  if (!task) {
    return { IsComplete: true };
  }
  const wanted = event.ResourceProperties;
  const { tasks = [] } = await ecs.send(new DescribeTasksCommand({ cluster: wanted.Cluster, tasks: [task] }));
  const [found] = tasks; // ECS is eventually consistent
  if (found?.lastStatus !== 'STOPPED') {
    return { IsComplete: false };
  }
  const container = found.containers?.find(({ name }) => name === 'grant');
  if (container?.exitCode === 0) {
    return { IsComplete: true };
  }
  const why = [
    container?.exitCode === undefined ? 'the task did not start' : `exit code ${container.exitCode}`,
    container?.reason,
    found.stoppedReason,
  ].filter(Boolean).join('; ');
  const stream = `iamproxy/grant/${task.split('/').at(-1)}`;
  throw new Error(`could not create the database users: ${why}; see the log group ${wanted.LogGroup}, stream ${stream}`);
}

function same(wanted, old) {
  const all = (resource) => JSON.stringify([resource?.Database, resource?.Users, resource?.Privileges]);
  return all(wanted) === all(old);
}

function reason(failure) {
  return [failure.reason, failure.detail].filter(Boolean).join(': ');
}
