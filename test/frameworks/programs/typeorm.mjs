// Tests TypeORM.
import { dataSource } from './snippet.mjs'
import { run } from './steps.mjs'

await dataSource.initialize()
await run('TypeORM', 'typeorm', 9, {
  query: (text, parameters) => dataSource.query(text, parameters),
  transaction: (steps) => dataSource.transaction((manager) => steps((text, parameters) => manager.query(text, parameters))),
  close: () => dataSource.destroy(),
})
