"""The function of the tests in Python. It connects in its static code, and in each invocation."""
import time

import psycopg


def query(sql):
    begun = time.monotonic()
    with psycopg.connect() as connection:
        connect = (time.monotonic() - begun) * 1000
        return {"value": str(connection.execute(sql).fetchone()[0]), "connect": connect}


init = query("select session_user")["value"]


def handler(event, context):
    return {"init": init, **query(event.get("sql", "select session_user"))}
