// The steps of the programs for Node.js.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'

// run takes a function that runs a query with parameters, one that runs a function in a
// transaction, and one that closes the pool. The function in a transaction gets another
// that runs queries in it.
export async function run(framework, library, id, { query, transaction, close }) {
  const count = async () => Number((await query('select count(*) as n from visits where id = $1', [id]))[0].n)
  try {
    assert.equal((await query('select current_user::text as name', []))[0].name, 'app')
    await query('delete from visits where id = $1', [id])
    await assert.rejects(transaction(async (within) => {
      await within('insert into visits values ($1)', [id])
      throw new RangeError('roll back')
    }), RangeError)
    assert.equal(await count(), 0)
    await transaction((within) => within('insert into visits values ($1)', [id]))
    assert.equal(await count(), 1)
    const pids = await Promise.all(Array.from({ length: 4 }, () => query('select pg_backend_pid() as pid from pg_sleep(0.2)', [])))
    assert.equal(new Set(pids.map((rows) => rows[0].pid)).size, 4)
  } finally {
    await close()
  }
  console.log(JSON.stringify({ framework, version: version(library), driver: library === 'pg' ? '–' : 'pg ' + version('pg') }))
}

function version(library) {
  return JSON.parse(readFileSync(`node_modules/${library}/package.json`)).version
}
