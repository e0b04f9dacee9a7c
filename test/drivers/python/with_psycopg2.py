import io
import threading
from contextlib import closing

import psycopg2
from steps import ROWS, SLEEP, SLEEPING, TEXT, check, report, until


def connect():
    return closing(psycopg2.connect(""))  # all of it is in PGHOST and the like


def query():
    with connect() as conn, conn.cursor() as cur:
        cur.execute("select %s + %s, %s", (40, 2, TEXT))
        check(cur.fetchall(), [(42, TEXT)])


def transaction():
    with connect() as conn, connect() as other:
        other.autocommit = True
        with conn.cursor() as cur, other.cursor() as seen:
            cur.execute("drop table if exists psycopg2_tx")
            cur.execute("create table psycopg2_tx (n int)")
            conn.commit()
            for end, want in (conn.rollback, []), (conn.commit, [(1,)]):
                cur.execute("insert into psycopg2_tx values (%s)", (1,))
                end()
                seen.execute("select n from psycopg2_tx")
                check(seen.fetchall(), want)


def copy():
    with connect() as conn, conn.cursor() as cur:
        cur.execute("create temp table psycopg2_copy (n int, t text)")
        sent = "".join("{}\t{}\n".format(n, t.replace("\\", "\\\\").replace("\t", "\\t")) for n, t in ROWS)
        cur.copy_expert("copy psycopg2_copy from stdin", io.StringIO(sent))
        cur.execute("select n, t from psycopg2_copy order by n")
        check(cur.fetchall(), ROWS)
        received = io.StringIO()
        cur.copy_expert("copy psycopg2_copy to stdout", received)
        check(received.getvalue(), sent)


def cancel_when_asleep(conn):
    def asleep():
        cur.execute(SLEEPING.format(conn.info.backend_pid))
        return cur.fetchone() == (1,)

    with connect() as other, other.cursor() as cur:
        other.autocommit = True
        until(asleep)
    conn.cancel()


def cancel():
    with connect() as conn, conn.cursor() as cur:
        canceler = threading.Thread(target=cancel_when_asleep, args=(conn,))
        canceler.start()
        try:
            cur.execute(SLEEP)
        except psycopg2.errors.QueryCanceled as e:
            check(e.pgcode, "57014")
        else:
            raise AssertionError("the query was not canceled")
        finally:
            canceler.join()
        conn.rollback()
        cur.execute("select 1")
        check(cur.fetchall(), [(1,)])


report("psycopg2", psycopg2.__version__.split()[0], query=query, transaction=transaction, copy=copy, cancel=cancel)
