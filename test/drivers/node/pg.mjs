import { pipeline } from 'node:stream/promises'
import { Readable } from 'node:stream'
import pg from 'pg'
import { from, to } from 'pg-copy-streams'
import { ASLEEP, COPIED, GOOD, LINES, SLEEP, TEXT, certificate, check, read, report, until } from './steps.mjs'

// All of the connection is in PGHOST and the like, but for PGSSLMODE=require: there it would
// verify the certificate, which is more than libpq does. PGSSLCERT it does not read.
const options = process.env.PGSSLMODE === 'require' ? { ssl: { rejectUnauthorized: false, ...certificate() } } : {}

// connected gives body two connections.
const connected = (body) => async () => {
  const clients = [new pg.Client(options), new pg.Client(options)]
  try {
    for (const client of clients) await client.connect()
    await body(...clients)
  } finally {
    for (const client of clients) await client.end()
  }
}

const query = connected(async (client) => {
  const { rows } = await client.query({ name: 'q', text: 'select $1::int + $2::int as sum, $3::text as text', values: [40, 2, TEXT] })
  check(rows, [{ sum: 42, text: TEXT }])
})

const transaction = connected(async (client, other) => {
  await client.query('drop table if exists node_tx; create table node_tx (n int)')
  for (const [end, want] of [['rollback', []], ['commit', [{ n: 1 }]]]) {
    await client.query('begin')
    await client.query('insert into node_tx values ($1)', [1])
    await client.query(end)
    check((await other.query('select n from node_tx')).rows, want)
  }
})

const copy = connected(async (client) => {
  await client.query('create temp table copied (n int, t text)')
  await pipeline(Readable.from(LINES), client.query(from('copy copied from stdin')))
  check((await client.query(COPIED)).rows, [GOOD])
  check(await read(client.query(to('copy copied to stdout'))), LINES.join(''))
})

const cancel = connected(async (client, other) => {
  const sleep = new pg.Query(SLEEP)
  const ended = new Promise((resolve) => sleep.once('error', resolve).once('end', resolve))
  client.query(sleep)
  await until(async () => (await other.query(ASLEEP, [client.processID])).rows[0].n === 1)
  new pg.Client(options).cancel(client, sleep)
  check((await ended)?.code, '57014')
  check((await client.query('select 1 as n')).rows, [{ n: 1 }])
})

await report('node-postgres', 'pg', { query, transaction, copy, cancel })
