// Tests the client of Prisma.
import { prisma } from './snippet.mjs'
import { run } from './steps.mjs'

await run('Prisma', '@prisma/client', 12, {
  query: (text, parameters) => prisma.$queryRawUnsafe(text, ...parameters),
  transaction: (steps) => prisma.$transaction((t) => steps((text, parameters) => t.$executeRawUnsafe(text, ...parameters))),
  close: () => prisma.$disconnect(),
})
