"""What the programs for Python have in common."""

import json
import platform
import time

# What COPY carries: with all that has to be escaped.
ROWS = [(n, f"row {n}: 50 % of\tit, \\ and é") for n in range(5000)]
TEXT = "it's 50 % \"é\""

SLEEP = "select pg_sleep(60)"
SLEEPING = "select count(*) from pg_stat_activity where pid = {} and wait_event = 'PgSleep'"


def check(got, want):
    if got != want:
        raise AssertionError(f"got {got!r:.200}, want {want!r:.200}")


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("waited in vain for the query to run")
        time.sleep(0.01)


def report(driver, version, **steps):
    """Runs the steps, and prints what became of each. One that returns "–" is for what the driver does not have."""
    results = {}
    for name, step in steps.items():
        try:
            results[name] = step() or "ok"
        except Exception as e:
            results[name] = f"{type(e).__name__}: {e}"
    runtime = "Python " + platform.python_version()
    print(json.dumps({"driver": driver, "version": version, "runtime": runtime, "steps": results}))
