// What the programs for Node.js have in common.

import { deepStrictEqual } from 'node:assert'
import { readFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'

export const check = deepStrictEqual
export const TEXT = 'it\'s 50 % "é"'
export const SLEEP = 'select pg_sleep(60)'
export const ASLEEP = "select count(*)::int as n from pg_stat_activity where pid = $1 and wait_event = 'PgSleep'"

// What COPY carries, in its own format: with all that has to be escaped.
export const LINES = Array.from({ length: 5000 }, (_, n) => `${n}\trow ${n}: 50 % of\\tit, \\\\ and é\n`)
// The same, as the server has it.
export const COPIED = String.raw`select count(*)::int as rows, count(distinct n)::int as different,
  bool_and(t = format(e'row %s: 50 %% of\tit, \\ and é', n)) as good from copied`
export const GOOD = { rows: 5000, different: 5000, good: true }

// certificate returns the client's certificate and its key.
export const certificate = () => ({ cert: readFileSync(process.env.PGSSLCERT), key: readFileSync(process.env.PGSSLKEY) })

export async function until(condition) {
  for (const deadline = Date.now() + 30_000; !(await condition()); await setTimeout(10)) {
    if (Date.now() > deadline) throw new Error('waited in vain for the query to run')
  }
}

// read puts together what a COPY sends.
export async function read(stream) {
  const chunks = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

// report runs the steps and prints what became of each. A module's version is what is installed.
export async function report(driver, module, steps) {
  const { version } = JSON.parse(readFileSync(`node_modules/${module}/package.json`))
  const results = {}
  for (const [name, step] of Object.entries(steps)) {
    results[name] = await step().then(() => 'ok', (e) => `${e.name}: ${e.message}`)
  }
  console.log(JSON.stringify({ driver, version, runtime: `Node.js ${process.versions.node}`, steps: results }))
}
