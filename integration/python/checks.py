"""Runs the check functions of a script one after another, and says which failed and why."""

import asyncio
import inspect
import os
import sys
import time
import traceback

HOST = os.environ["PGHOST"]
PORT = int(os.environ["PGPORT"])
USER = os.environ["PGUSER"]
PASSWORD = os.environ["PGPASSWORD"]
DATABASE = os.environ["PGDATABASE"]

# Longest time one check may take, in seconds.
DEADLINE = 60


async def _within_deadline(check):
    await asyncio.wait_for(check(), DEADLINE)


def main(checks):
    """Runs each check (a function or coroutine function) and exits with 1 if any failed."""
    failed = []
    for check in checks:
        start = time.monotonic()
        try:
            if inspect.iscoroutinefunction(check):
                asyncio.run(_within_deadline(check))
            else:
                check()
            verdict = "ok"
        except Exception:
            traceback.print_exc(file=sys.stdout)
            failed.append(check.__name__)
            verdict = "FAILED"
        print(f"  {check.__name__} ... {verdict} ({time.monotonic() - start:.1f} s)", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def raises(error, action):
    """Runs `action` and returns the `error` it must raise."""
    try:
        action()
    except error as caught:
        return caught
    raise AssertionError(f"{error.__name__} was not raised")
