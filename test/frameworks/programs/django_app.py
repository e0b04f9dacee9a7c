"""Tests Django's database layer with settings.py."""

import json

import django
from django.conf import settings
from settings import DATABASES

settings.configure(DATABASES=DATABASES)
django.setup()

import psycopg2
from django.db import connection, transaction


def value(query, *parameters):
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return cursor.fetchone()[0] if cursor.description else None


def check(got, want):
    assert got == want, f"got {got}, want {want}"


check(value("select current_user"), "app")
value("delete from visits where id = %s", 2)
try:
    with transaction.atomic():
        value("insert into visits values (%s)", 2)
        raise LookupError
except LookupError:
    pass
check(value("select count(*) from visits where id = %s", 2), 0)
with transaction.atomic():
    value("insert into visits values (%s)", 2)
check(value("select count(*) from visits where id = %s", 2), 1)
# CONN_MAX_AGE keeps the connection over the end of a request.
pid = value("select pg_backend_pid()")
connection.close_if_unusable_or_obsolete()
check(value("select pg_backend_pid()"), pid)
print(json.dumps({"framework": "Django", "version": django.__version__, "driver": "psycopg2 " + psycopg2.__version__.split()[0]}))
