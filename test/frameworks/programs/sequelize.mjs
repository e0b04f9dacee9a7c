// Tests Sequelize.
import { QueryTypes } from 'sequelize'
import { sequelize } from './snippet.mjs'
import { run } from './steps.mjs'

sequelize.options.logging = false
await run('Sequelize', 'sequelize', 7, {
  query: (text, bind) => sequelize.query(text, { bind, type: text.startsWith('select') ? QueryTypes.SELECT : QueryTypes.RAW }),
  transaction: (steps) => sequelize.transaction((transaction) => steps((text, bind) => sequelize.query(text, { bind, transaction }))),
  close: () => sequelize.close(),
})
