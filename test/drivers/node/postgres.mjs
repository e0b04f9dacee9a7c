import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import postgres from 'postgres'
import { ASLEEP, COPIED, GOOD, LINES, SLEEP, TEXT, certificate, check, read, report, until } from './steps.mjs'

// All of the connection is in PGHOST and the like, but for PGSSLMODE.
const options = { max: 1, ssl: process.env.PGSSLMODE === 'require' && { rejectUnauthorized: false, ...certificate() }, onnotice() {} }

// connected gives body two pools of one connection each.
const connected = (body) => async () => {
  const pools = [1, 2].map(() => postgres(options))
  try {
    await body(...pools)
  } finally {
    for (const pool of pools) await pool.end()
  }
}

const query = connected(async (sql) => {
  check([...await sql`select ${40}::int + ${2}::int as sum, ${TEXT}::text as text`], [{ sum: 42, text: TEXT }])
})

const transaction = connected(async (sql, other) => {
  await sql`drop table if exists postgresjs_tx`
  await sql`create table postgresjs_tx (n int)`
  const change = new Error('of mind')
  const insert = (sql) => sql`insert into postgresjs_tx values (${1})`
  await sql.begin(async (sql) => { await insert(sql); throw change }).catch((e) => check(e, change))
  check([...await other`select n from postgresjs_tx`], [])
  await sql.begin(insert)
  check([...await other`select n from postgresjs_tx`], [{ n: 1 }])
})

const copy = connected(async (sql) => {
  await sql`create temp table copied (n int, t text)`
  await pipeline(Readable.from(LINES), await sql`copy copied from stdin`.writable())
  check([...await sql.unsafe(COPIED)], [GOOD])
  check(await read(await sql`copy copied to stdout`.readable()), LINES.join(''))
})

const cancel = connected(async (sql, other) => {
  const [{ pid }] = await sql`select pg_backend_pid() as pid`
  const sleep = sql.unsafe(SLEEP).execute()
  const ended = sleep.then(() => undefined, (e) => e)
  await until(async () => (await other.unsafe(ASLEEP, [pid]))[0].n === 1)
  sleep.cancel()
  check((await ended)?.code, '57014')
  check([...await sql`select 1 as n`], [{ n: 1 }])
})

await report('postgres.js', 'postgres', { query, transaction, copy, cancel })
