import asyncio
import io
import time

import asyncpg
from steps import ROWS, SLEEP, SLEEPING, TEXT, check, report


def step(body):
    """Runs body with two connections of its own."""

    async def run():
        conn, other = await asyncpg.connect(), await asyncpg.connect()  # all of it is in PGHOST and the like
        try:
            await body(conn, other)
        finally:
            await conn.close()
            await other.close()

    return lambda: asyncio.run(run())


async def query(conn, other):
    prepared = await conn.prepare("select $1::int + $2::int, $3::text")
    check([tuple(row) for row in await prepared.fetch(40, 2, TEXT)], [(42, TEXT)])


async def transaction(conn, other):
    await conn.execute("drop table if exists asyncpg_tx")
    await conn.execute("create table asyncpg_tx (n int)")
    for end, want in ("rollback", []), ("commit", [1]):
        tx = conn.transaction()
        await tx.start()
        await conn.execute("insert into asyncpg_tx values ($1)", 1)
        await getattr(tx, end)()
        check([row["n"] for row in await other.fetch("select n from asyncpg_tx")], want)


async def copy(conn, other):
    await conn.execute("create temp table asyncpg_copy (n int, t text)")
    await conn.copy_records_to_table("asyncpg_copy", records=ROWS)
    check([tuple(row) for row in await conn.fetch("select n, t from asyncpg_copy order by n")], ROWS)
    first = io.BytesIO()
    await conn.copy_from_table("asyncpg_copy", output=first)
    check(first.getvalue().count(b"\n"), len(ROWS))
    await conn.execute("truncate asyncpg_copy")
    await conn.copy_to_table("asyncpg_copy", source=io.BytesIO(first.getvalue()))
    check([tuple(row) for row in await conn.fetch("select n, t from asyncpg_copy order by n")], ROWS)


async def cancel(conn, other):
    # asyncpg keeps the server's answer to a cancel to itself: to its user the task is canceled.
    task = asyncio.create_task(conn.execute(SLEEP))
    asleep = SLEEPING.format(conn.get_server_pid())
    while await other.fetchval(asleep) == 0 and not task.done():
        await asyncio.sleep(0.01)
    task.cancel()
    since = time.monotonic()
    try:
        await task
    except asyncio.CancelledError:
        pass
    else:
        raise AssertionError("the query was not canceled")
    check(await conn.fetchval("select 1"), 1)  # not before the other one has ended
    check(time.monotonic() - since < 30, True)


report("asyncpg", asyncpg.__version__, query=step(query), transaction=step(transaction), copy=step(copy), cancel=step(cancel))
