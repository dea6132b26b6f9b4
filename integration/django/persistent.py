"""Serves requests as a server with long-lived threads does: with a database connection for each request (`CONN_MAX_AGE=0`,
the default), and with one that is kept (`None`), in every thread. In between, the servers end."""

import io
import json
import os
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

from django.core.wsgi import get_wsgi_application  # noqa: E402

application = get_wsgi_application()

from django.db import connection, connections  # noqa: E402
from django.test import RequestFactory  # noqa: E402

THREADS = 6


def request(method, path, form=None):
    """One request, as a WSGI server makes it: Django sees it begin and end."""
    factory = RequestFactory()
    made = factory.post(path, form) if method == "POST" else factory.get(path)
    body = made.environ["wsgi.input"].read(int(made.environ.get("CONTENT_LENGTH") or 0))
    made.environ["wsgi.input"] = io.BytesIO(body)
    status = []
    answer = application(made.environ, lambda line, headers: status.append((line, dict(headers))))
    body = b"".join(answer)
    answer.close()
    line, headers = status[0]
    if line.startswith("302"):
        return request("GET", headers["Location"])
    assert line.startswith("200"), (line, body[:2000])
    return json.loads(body)


def end_servers():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE usename = current_user AND pid <> pg_backend_pid()"
        )
        assert cursor.fetchall(), "nobody was connected"
    connection.close()


def visit(number):
    seen = []
    for i in range(3):
        text = f"request {i} of thread {number}"
        shown = request("POST", "/write", {"author": f"thread {number}", "text": text})
        assert [f"thread {number}", text] in shown["entries"], shown
        seen.append(connection.connection)
    return seen


def serve(age, checks):
    connections.settings["default"].update(CONN_MAX_AGE=age, CONN_HEALTH_CHECKS=checks)
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in range(2):
            for seen in threads.map(visit, range(THREADS)):
                if age == 0:
                    assert seen == [None] * len(seen), seen
                else:
                    assert seen[0] is not None and len(set(map(id, seen))) == 1, seen
            if checks:
                end_servers()
    print(f"  CONN_MAX_AGE={age}, CONN_HEALTH_CHECKS={checks} ... ok", flush=True)


if __name__ == "__main__":
    serve(0, False)
    serve(None, False)
    serve(None, True)
