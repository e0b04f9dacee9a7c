// A function that connects in each invocation. iamproxy keeps the connection to the database.
import pg from 'pg';

export async function handler() {
  const client = new pg.Client(); // PGHOST, PGUSER and PGDATABASE are variables of the function
  await client.connect();
  try {
    return (await client.query('select now(), session_user')).rows[0];
  } finally {
    await client.end();
  }
}
