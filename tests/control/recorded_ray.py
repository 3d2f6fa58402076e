"""What a real Ray 2.60 answered, served again over HTTP: a head, four `train` nodes, a `gpu` node, one job
that holds them and asks for more than there is, and Serve with one replica that waits."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

RECORDED = Path(__file__).parent / "recorded"
ROUTES = {
    "/nodes": "nodes",
    "/api/cluster_status": "cluster_status",
    "/events": "events",
    "/api/serve/applications/": "serve",
    "/api/v0/actors": "actors",
    "/api/v0/tasks": "tasks",
    "/api/v0/placement_groups": "placement_groups",
    "/api/jobs/": "jobs",
    "/api/jobs/lost-running": "job",
    "/api/jobs/lost-running/logs": "logs",
    "/api/v0/nodes": "state_nodes",
}


def recorded(name: str) -> Any:
    """One recorded answer."""
    return json.loads((RECORDED / f"{name}.json").read_text())


@contextmanager
def answering(answers: dict[str, Any]) -> Iterator[str]:
    """A server that answers each of `answers`, by the names in ROUTES or by a path, else as was recorded; a
    pair is a status and a body. The dictionary may change while it runs. Yields its address."""

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # an answer in one piece: in two, each waits 40 ms to be acknowledged

        def do_GET(self):
            path = urlsplit(self.path).path
            name = ROUTES.get(path)
            if name == "cluster_status" and "format=1" in self.path:
                name = "cluster_status_text"
            found = answers.get(name or path, None if name is None else (200, None))
            status, body = found if isinstance(found, tuple) else (200, json.dumps(found))
            if found is None:
                status, body = 404, "404: Not Found"
            elif body is None:
                body = (RECORDED / f"{name}.json").read_text()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}"
    finally:
        listener.shutdown()
        listener.server_close()


def ways_to_age(answer: Any) -> Iterator[tuple[str, Any]]:
    """The answer with each of its fields missing, empty or of another type, one at a time: what an older or
    newer server may say. Of the rows of a list the first two stand for all."""
    for path in _paths(answer):
        for change in ("missing", None, "odd", {}, ["odd", 1]):
            copy = json.loads(json.dumps(answer))
            inside = copy
            for step in path[:-1]:
                inside = inside[step]
            if change == "missing":
                del inside[path[-1]]
            else:
                inside[path[-1]] = change
            yield f"{'.'.join(map(str, path))} {change}", copy
    yield "an unknown key", _with_extra_keys(answer)


def _paths(value: Any, path: tuple = ()) -> Iterator[tuple]:
    children = (
        value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield (*path, key)
        yield from _paths(child, (*path, key))


def _with_extra_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_extra_keys(child) for key, child in value.items()} | {"newKey": {"a": [1]}}
    return [_with_extra_keys(child) for child in value] if isinstance(value, list) else value
