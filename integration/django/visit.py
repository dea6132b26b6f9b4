"""Visits the site over HTTP as browsers do, and checks what they are shown."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Browser:
    """Follows redirects and keeps cookies."""

    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}"
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))

    def get(self, path, form=None):
        data = urllib.parse.urlencode(form).encode() if form is not None else None
        with self.opener.open(self.base + path, data, timeout=20) as answer:
            return json.load(answer)


def wait_for(port, server):
    for _ in range(200):
        assert server.poll() is None, "runserver ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("runserver does not listen")


def every_write_is_seen_after_the_redirect(port):
    failures = []

    def visitor(number):
        browser = Browser(port)
        try:
            for i in range(15):
                text = f"entry {i} of visitor {number}"
                shown = browser.get("/write", {"author": f"visitor {number}", "text": text})
                # The redirect was another request, on another database connection.
                if [f"visitor {number}", text] not in shown["entries"]:
                    failures.append((text, shown))
        except Exception as error:
            failures.append(error)

    visitors = [threading.Thread(target=visitor, args=(number,)) for number in range(8)]
    for thread in visitors:
        thread.start()
    for thread in visitors:
        thread.join()
    assert not failures, failures


def sessions_are_kept(port):
    browser = Browser(port)
    assert [browser.get("/visits")["visits"] for _ in range(5)] == [1, 2, 3, 4, 5]


def transactions_hold_together(port):
    browser = Browser(port)
    first = browser.get("/write", {"author": "giver", "text": "a"})["entries"]
    assert first
    for _ in range(10):
        totals = browser.get("/transfer", {"from": 1, "to": 2})
        assert totals["stars"] == 0, totals


def many_reads(port):
    browser = Browser(port)
    for _ in range(100):
        browser.get("/?from=1")


def main():
    port = free_port()
    manage = [sys.executable, "-B", str(Path(__file__).parent / "manage.py")]
    server = subprocess.Popen([*manage, "runserver", "--noreload", f"127.0.0.1:{port}"])
    try:
        wait_for(port, server)
        for check in (every_write_is_seen_after_the_redirect, sessions_are_kept, transactions_hold_together, many_reads):
            check(port)
            print(f"  {check.__name__} ... ok", flush=True)
    except urllib.error.HTTPError as error:
        sys.exit(f"{error}: {error.read().decode()[:2000]}")
    finally:
        server.terminate()
        server.wait(10)


if __name__ == "__main__":
    os.environ["PYTHONUNBUFFERED"] = "1"
    main()
