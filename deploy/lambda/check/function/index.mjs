// The function of the tests in Node.js. It connects in its static code, and in each invocation.
import pg from 'pg';

/** Runs a query on a new connection, and returns the first value and the milliseconds of the connect. */
async function query(sql) {
  const client = new pg.Client();
  const begun = performance.now();
  await client.connect();
  const connect = performance.now() - begun;
  try {
    const { rows } = await client.query({ text: sql, rowMode: 'array' });
    return { value: String(rows[0][0]), connect };
  } finally {
    await client.end();
  }
}

const init = (await query('select session_user')).value;
let kept;

export async function handler({ sql = 'select session_user', keep = false }) {
  if (!keep) {
    return { init, ...await query(sql) };
  }
  if (!kept) {
    kept = new pg.Client();
    kept.on('error', () => {});
    await kept.connect();
  }
  const { rows } = await kept.query({ text: sql, rowMode: 'array' });
  return { init, value: String(rows[0][0]) };
}

export const stream = awslambda.streamifyResponse(async ({ rows }, response) => {
  const client = new pg.Client();
  await client.connect();
  for (let n = 1; n <= rows; n++) {
    const { rows: [row] } = await client.query('select $1::int as n, repeat(\'x\', 100) as text', [n]);
    response.write(`${row.n} ${row.text}\n`);
  }
  await client.end();
  response.end();
});
