"""A hub on this machine: folders served in the layout that the real client of the hub asks for.

The client reads its endpoint when it is imported, so what is to use the stand-in runs in a process of its own, with
`environment` as its environment.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubStandIn:
    """What is served, and what was asked for.

    A repository is a folder below `root`: `models/acme/tiny-llama`, `datasets/acme/rows`; every revision of it is the
    same, but for a data set the folder `refs/convert/parquet` beside it, if there is one: `datasets/acme/rows@parquet`.
    """

    root: Path
    gated: set[str] = field(default_factory=set)
    """Names that answer only those who have accepted their terms."""
    requests: list[str] = field(default_factory=list)
    """Method and path of everything that was asked for."""
    url: str = ""

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """For a process that is to use it, with an empty cache of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        return {**kept, "HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **more}

    def files_asked_for(self) -> set[str]:
        """The last part of every path below `resolve`."""
        return {path.rpartition("/")[2] for path in self.requests if "/resolve/" in path}


@contextmanager
def hub_stand_in(root: Path, gated: set[str] | None = None) -> Iterator[HubStandIn]:
    """Serve until the end of the block."""
    hub = HubStandIn(root, gated or set())
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class _Asked:
    """A path of the hub, taken apart."""

    kind: str
    name: str
    revision: str
    file: str | None = None
    is_tree: bool = False


def _take_apart(path: str) -> _Asked | None:
    parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
    is_api = parts[0] == "api"
    parts = parts[1:] if is_api else parts
    kind = parts.pop(0) if parts and parts[0] in ("models", "datasets") else "models"
    if len(parts) < 2:
        return None
    name, rest = "/".join(parts[:2]), parts[2:]
    if not is_api:
        return _Asked(kind, name, rest[1], "/".join(rest[2:])) if rest[:1] == ["resolve"] else None
    revision = rest[1] if len(rest) > 1 else "main"
    return _Asked(kind, name, revision, is_tree=rest[:1] == ["tree"])


def _handler(hub: HubStandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self, with_body: bool) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            asked = _take_apart(self.path)
            folder = None if asked is None else _folder(hub.root, asked)
            if asked is None or folder is None:
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body)
            elif asked.name in hub.gated and asked.file is not None:
                message = f"Access to model {asked.name} is restricted. Please log in."
                self._send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": message}, with_body)
            elif asked.file is None:
                self._send(200, json.dumps(_description(folder, asked)).encode(), {}, with_body)
            elif not (folder / asked.file).is_file():
                self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, with_body)
            else:
                body = (folder / asked.file).read_bytes()
                etag = f'"{hashlib.sha256(body).hexdigest()}"'
                self._send(200, body, {"X-Repo-Commit": COMMIT, "ETag": etag}, with_body)

        def _send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    return Handler


def _folder(root: Path, asked: _Asked) -> Path | None:
    branch = "@parquet" if asked.revision == "refs/convert/parquet" else ""
    folder = root / asked.kind / f"{asked.name}{branch}"
    return folder if folder.is_dir() else None


def _description(folder: Path, asked: _Asked) -> Any:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path: path.relative_to(folder).as_posix() for path in files}
    if asked.is_tree:
        return [{"type": "file", "path": names[path], "size": path.stat().st_size, "oid": COMMIT} for path in files]
    siblings = [{"rfilename": name} for name in names.values()]
    return {"id": asked.name, "sha": COMMIT, "private": False, "tags": [], "gated": False, "siblings": siblings}
