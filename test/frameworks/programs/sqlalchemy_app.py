"""Tests an engine of SQLAlchemy, which is made in engine.py."""

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import sqlalchemy
from engine import engine
from sqlalchemy import text


def check(got, want):
    assert got == want, f"got {got}, want {want}"


def count():
    with engine.connect() as conn:
        return conn.execute(text("select count(*) from visits where id = :id"), {"id": 3}).scalar()


def pid(_):
    with engine.connect() as conn:
        return conn.execute(text("select pg_backend_pid() from pg_sleep(0.2)")).scalar()


with engine.connect() as conn:
    check(conn.execute(text("select current_user")).scalar(), "app")
with engine.begin() as conn:
    conn.execute(text("delete from visits where id = 3"))
with engine.connect() as conn:
    attempt = conn.begin()
    conn.execute(text("insert into visits values (:id)"), {"id": 3})
    attempt.rollback()
check(count(), 0)
with engine.begin() as conn:
    conn.execute(text("insert into visits values (:id)"), {"id": 3})
check(count(), 1)
with ThreadPoolExecutor(4) as threads:
    check(len(set(threads.map(pid, range(4)))), 4)
print(json.dumps({"framework": "SQLAlchemy", "version": sqlalchemy.__version__, "driver": "psycopg2 " + psycopg2.__version__.split()[0]}))
