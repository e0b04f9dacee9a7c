# Generates a client of Prisma, and tests it. Prisma looks for its programs, even if it runs
# none of them.
set -eu
export CHECKPOINT_DISABLE=1 PRISMA_SCHEMA_ENGINE_BINARY="$PWD/unused" PRISMA_QUERY_ENGINE_LIBRARY="$PWD/unused"
: >unused
[ -d generated ] || node_modules/.bin/prisma generate --schema schema.prisma >&2
exec node prisma.mjs
