// With the schema engine that is JavaScript, since the usual one is a program that
// Prisma fetches when it is first run. Only adapters of Prisma 7 know the types that
// it asks for.
import { PrismaPg } from '@prisma/adapter-pg'
import { defineConfig } from 'prisma/config'

export default defineConfig({
  schema: 'prisma/schema.prisma',
  experimental: { adapter: true },
  engine: 'js',
  adapter: async () => new PrismaPg({ connectionString: process.env.DATABASE_URL }),
})
