// Runs a function of Node.js on the Runtime API, as the runtime of Lambda does.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
import { request } from 'node:http';
import { resolve } from 'node:path';

const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(':');

/** Sends a request, with a body that write writes, and returns the response. */
function call(method, path, headers = {}, write = (req) => req.end()) {
  return new Promise((done, failed) => {
    const req = request({ host, port, method, path: `/2018-06-01/runtime/${path}`, headers }, (res) => {
      let body = '';
      res.setEncoding('utf8').on('data', (part) => { body += part; }).on('end', () => done({ headers: res.headers, body }));
    }).on('error', failed);
    write(req);
  });
}

globalThis.awslambda = { streamifyResponse: (handler) => Object.assign(handler, { streams: true }) };

const describe = (error) => JSON.stringify({ errorType: error.name, errorMessage: error.message, stackTrace: [] });

const [file, name] = process.env._HANDLER.split('.');
const { [name]: handler } = await import(resolve(`${file}.mjs`));
for (;;) {
  const { headers, body } = await call('GET', 'invocation/next');
  const invocation = `invocation/${headers['lambda-runtime-aws-request-id']}`;
  try {
    if (handler.streams) {
      await call('POST', `${invocation}/response`, { 'Lambda-Runtime-Function-Response-Mode': 'streaming', 'Transfer-Encoding': 'chunked' },
        (req) => handler(JSON.parse(body), req));
    } else {
      const response = JSON.stringify(await handler(JSON.parse(body)));
      await call('POST', `${invocation}/response`, {}, (req) => req.end(response));
    }
  } catch (error) {
    await call('POST', `${invocation}/error`, { 'Lambda-Runtime-Function-Error-Type': error.name }, (req) => req.end(describe(error)));
  }
}
