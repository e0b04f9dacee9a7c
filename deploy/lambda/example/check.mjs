// A function that tests each step of a login with the role and the network of a function.
import { execFile } from 'node:child_process';

const { IAMPROXY_ENDPOINTS, PGUSER, PGDATABASE } = process.env;

export const handler = ({ endpoint = IAMPROXY_ENDPOINTS.split(',')[0], user = PGUSER, database = PGDATABASE }) => new Promise((done) => {
  const args = ['check', endpoint, '--user', user, '--database', database, '--timeout', '12s', '--json'];
  execFile('/opt/extensions/iamproxy', args, (error, stdout, stderr) => done(stdout ? JSON.parse(stdout) : { error: stderr || error.message }));
});
