// A function that tests each step of a login with the role and the network of a function.
import { execFile } from 'node:child_process';

export const handler = ({ user = process.env.PGUSER }) => new Promise((done) => {
  execFile('/opt/extensions/iamproxy', ['check', process.env.IAMPROXY_ENDPOINTS, '--user', user, '--json'],
    (_error, stdout, stderr) => done(stdout ? JSON.parse(stdout) : { error: stderr }));
});
