import os
import threading
from contextlib import closing

import pyodbc
from steps import SLEEP, SLEEPING, TEXT, check, report, until

# psqlODBC reads none of libpq's variables.
DSN = "Driver={{PostgreSQL Unicode}};Servername={PGHOST};Port={PGPORT};Database={PGDATABASE};Username={PGUSER};SSLmode={PGSSLMODE}"


def connect():
    return closing(pyodbc.connect(DSN.format(**os.environ)))


def query():
    with connect() as conn:
        rows = conn.execute("select ?::int + ?::int, ?::text", 40, 2, TEXT).fetchall()
        check([tuple(row) for row in rows], [(42, TEXT)])


def transaction():
    with connect() as conn, connect() as other:
        other.autocommit = True
        conn.execute("drop table if exists pyodbc_tx")
        conn.execute("create table pyodbc_tx (n int)")
        conn.commit()
        for end, want in (conn.rollback, []), (conn.commit, [1]):
            conn.execute("insert into pyodbc_tx values (?)", 1)
            end()
            check([n for n, in other.execute("select n from pyodbc_tx").fetchall()], want)


def copy():
    return "–"  # ODBC has no COPY from and to the client


def cancel_when_asleep(cursor, pid):
    with connect() as other:
        other.autocommit = True
        until(lambda: other.execute(SLEEPING.format(pid)).fetchval() == 1)
    cursor.cancel()


def cancel():
    with connect() as conn, conn.cursor() as cursor:
        pid = conn.execute("select pg_backend_pid()").fetchval()
        canceler = threading.Thread(target=cancel_when_asleep, args=(cursor, pid))
        canceler.start()
        try:
            cursor.execute(SLEEP)
        except pyodbc.Error as e:
            check(e.args[0], "57014")
        else:
            raise AssertionError("the query was not canceled")
        finally:
            canceler.join()
        conn.rollback()
        check(conn.execute("select 1").fetchval(), 1)


with connect() as conn:
    version = "{} (pyodbc {})".format(conn.getinfo(pyodbc.SQL_DRIVER_VER), pyodbc.version)
report("psqlODBC", version, query=query, transaction=transaction, copy=copy, cancel=cancel)
