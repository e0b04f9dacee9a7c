// What AWS CloudFormation has run when database users are to be created: a task of Amazon ECS, whose
// end is waited for. See "Asynchronous providers" of aws-cdk-lib/custom-resources.
import { DescribeTasksCommand, ECSClient, RunTaskCommand } from '@aws-sdk/client-ecs';

const ecs = new ECSClient();

// Starts the task, if there is anything for it to do.
export async function onEvent(event) {
  const wanted = event.ResourceProperties;
  if (event.RequestType === 'Delete') {
    console.log('the database users stay: nothing is taken away');
    return {};
  }
  if (event.RequestType === 'Update' && same(wanted, event.OldResourceProperties)) {
    console.log('the same users of the same database, with the same privileges: nothing to do');
    return {};
  }
  const { tasks = [], failures = [] } = await ecs.send(new RunTaskCommand({
    cluster: wanted.Cluster,
    taskDefinition: wanted.TaskDefinition,
    launchType: 'FARGATE',
    count: 1,
    clientToken: event.RequestId, // this function may be run again
    networkConfiguration: {
      awsvpcConfiguration: {
        subnets: wanted.Subnets,
        securityGroups: [wanted.SecurityGroup],
        assignPublicIp: wanted.AssignPublicIp,
      },
    },
  }));
  if (tasks.length === 0) {
    throw new Error(`the task that creates the database users was not started: ${failures.map(reason).join('; ') || 'ECS does not say why'}`);
  }
  return { Data: { Task: tasks[0].taskArn } };
}

// Says whether the task has ended; fails if it did not end well.
export async function isComplete(event) {
  const task = event.Data?.Task;
  if (!task) {
    return { IsComplete: true };
  }
  const wanted = event.ResourceProperties;
  const { tasks = [] } = await ecs.send(new DescribeTasksCommand({ cluster: wanted.Cluster, tasks: [task] }));
  const [found] = tasks; // not at once
  if (found?.lastStatus !== 'STOPPED') {
    return { IsComplete: false };
  }
  const container = found.containers?.find(({ name }) => name === 'grant');
  if (container?.exitCode === 0) {
    return { IsComplete: true };
  }
  const why = [
    container?.exitCode === undefined ? 'it did not start' : `exit code ${container.exitCode}`,
    container?.reason,
    found.stoppedReason,
  ].filter(Boolean).join('; ');
  const stream = `iamproxy/grant/${task.split('/').at(-1)}`;
  throw new Error(`the database users were not created: ${why}; the reason is in the log group ${wanted.LogGroup}, stream ${stream}`);
}

function same(wanted, old) {
  const all = (resource) => JSON.stringify([resource?.Database, resource?.Users, resource?.Privileges]);
  return all(wanted) === all(old);
}

function reason(failure) {
  return [failure.reason, failure.detail].filter(Boolean).join(': ');
}
