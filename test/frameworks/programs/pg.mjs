// Tests a pool of node-postgres.
import { pool } from './snippet.mjs'
import { run } from './steps.mjs'

await run('node-postgres', 'pg', 6, {
  query: async (text, parameters) => (await pool.query(text, parameters)).rows,
  transaction: async (steps) => {
    const client = await pool.connect()
    try {
      await client.query('begin')
      await steps((text, parameters) => client.query(text, parameters))
      await client.query('commit')
    } catch (e) {
      await client.query('rollback')
      throw e
    } finally {
      client.release()
    }
  },
  close: () => pool.end(),
})
