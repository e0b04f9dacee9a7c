import threading

import psycopg
from steps import ROWS, SLEEP, SLEEPING, TEXT, check, report, until


def connect():
    return psycopg.connect("", autocommit=True)  # all of it is in PGHOST and the like


def query():
    with connect() as conn:
        check(conn.execute("select %s::int + %s::int, %s::text", (40, 2, TEXT), prepare=True).fetchall(), [(42, TEXT)])


def transaction():
    with connect() as conn, connect() as other:
        conn.execute("drop table if exists psycopg_tx")
        conn.execute("create table psycopg_tx (n int)")
        for rolled_back, want in (True, []), (False, [(1,)]):
            with conn.transaction(force_rollback=rolled_back):
                conn.execute("insert into psycopg_tx values (%s)", (1,))
            check(other.execute("select n from psycopg_tx").fetchall(), want)


def copy():
    with connect() as conn, conn.cursor() as cur:
        cur.execute("create temp table psycopg_copy (n int, t text)")
        with cur.copy("copy psycopg_copy from stdin") as to_server:
            for row in ROWS:
                to_server.write_row(row)
        check(cur.execute("select n, t from psycopg_copy order by n").fetchall(), ROWS)
        with cur.copy("copy psycopg_copy to stdout") as from_server:
            from_server.set_types(["int4", "text"])
            check(list(from_server.rows()), ROWS)


def cancel_when_asleep(conn):
    with connect() as other:
        until(lambda: other.execute(SLEEPING.format(conn.info.backend_pid)).fetchone() == (1,))
    conn.cancel()


def cancel():
    with connect() as conn:
        canceler = threading.Thread(target=cancel_when_asleep, args=(conn,))
        canceler.start()
        try:
            conn.execute(SLEEP)
        except psycopg.errors.QueryCanceled as e:
            check(e.sqlstate, "57014")
        else:
            raise AssertionError("the query was not canceled")
        finally:
            canceler.join()
        check(conn.execute("select 1").fetchall(), [(1,)])


report("psycopg", psycopg.__version__, query=query, transaction=transaction, copy=copy, cancel=cancel)
