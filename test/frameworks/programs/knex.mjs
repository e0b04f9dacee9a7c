// Tests Knex, whose placeholders are question marks.
import { db } from './snippet.mjs'
import { run } from './steps.mjs'

const raw = (to) => async (text, parameters) => (await to.raw(text.replaceAll('$1', '?'), parameters)).rows
await run('Knex', 'knex', 8, {
  query: raw(db),
  transaction: (steps) => db.transaction((t) => steps(raw(t))),
  close: () => db.destroy(),
})
