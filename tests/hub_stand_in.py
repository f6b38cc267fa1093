"""A local stand-in of the Hugging Face Hub: as much of its HTTP API as publishing and fetching a folder takes."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_of_the_stand_in"
_REPO = r"(?P<kind>models|datasets)/(?P<name>[\w.-]+/[\w.-]+)"


class Hub:
    """Holds what was sent: `repositories` is {(kind, OWNER/NAME): {revision: {file: bytes}}}, `private` the names."""

    def __init__(self):
        self.repositories: dict = {}
        self.private: set = set()
        self.url = ""

    def files(self, name: str, kind: str = "models", revision: str = "main") -> dict[str, bytes]:
        return self.repositories[kind, name][revision]

    def environment(self, home) -> dict[str, str]:
        """Variables that send a process here, with an empty cache in `home`."""
        where = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
        return where | {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "120"}


@contextmanager
def hub_stand_in():
    """Yields a `Hub` that listens on this machine until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _sha(files: dict[str, bytes]) -> str:
    digest = hashlib.sha1()
    for file, content in sorted(files.items()):
        digest.update(file.encode() + content)
    return digest.hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_POST(self):  # noqa: N802
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._json({"error": "Invalid username or password."}, 401)
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            kind = f"{asked.get('type') or 'model'}s"
            known = (kind, name) in self.hub.repositories
            self.hub.repositories.setdefault((kind, name), {"main": {}})
            if asked.get("private") or asked.get("visibility") == "private":
                self.hub.private.add(name)
            return self._json({"url": f"{self.hub.url}/{name}", "name": name}, 409 if known else 200)
        if found := re.fullmatch(rf"/api/{_REPO}/branch/(?P<branch>.+)", self.path):
            self.hub.repositories[found["kind"], found["name"]].setdefault(found["branch"], {})
            return self._json({})
        if found := re.fullmatch(rf"/api/{_REPO}/preupload/(?P<branch>.+)", self.path):
            files = [{"path": each["path"], "uploadMode": "regular"} for each in json.loads(body)["files"]]
            return self._json({"files": [{**each, "shouldIgnore": False, "oid": None} for each in files]})
        if found := re.fullmatch(rf"/api/{_REPO}/commit/(?P<branch>.+)", self.path):
            files = self.hub.repositories[found["kind"], found["name"]][found["branch"]]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            sha = _sha(files)
            return self._json({"commitUrl": f"{self.hub.url}/{found['name']}/commit/{sha}", "commitOid": sha})
        return self._json({"error": self.path}, 404)

    def do_GET(self):  # noqa: N802
        if found := re.match(rf"/api/{_REPO}/revision/(?P<revision>[^?]+)", self.path):
            files = self._at(found["kind"], found["name"], found["revision"])
            if files is None:
                return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return self._json({"id": found["name"], "sha": _sha(files), "siblings": []})
        if found := re.match(rf"/api/{_REPO}/tree/(?P<revision>[^?]+)", self.path):
            files = self._at(found["kind"], found["name"], found["revision"])
            tree = [{"type": "file", "path": file, "size": len(data)} for file, data in files.items()]
            return self._json([{**entry, "oid": hashlib.sha1(files[entry["path"]]).hexdigest()} for entry in tree])
        place = r"/(?P<kind>datasets/)?(?P<name>[\w.-]+/[\w.-]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)"
        if found := re.fullmatch(place, self.path):
            files = self._at("datasets" if found["kind"] else "models", found["name"], found["revision"]) or {}
            if found["file"] in files:
                content = files[found["file"]]
                digest = hashlib.sha256(content).hexdigest()
                return self._send(200, content, {"ETag": f'"{digest}"', "X-Repo-Commit": _sha(files)})
        return self._json({"error": self.path}, 404, {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_):
        """Says nothing."""

    def _at(self, kind: str, name: str, revision: str) -> dict[str, bytes] | None:
        branches = self.hub.repositories.get((kind, name), {})
        by_commit = {_sha(files): files for files in branches.values()}
        return branches.get(revision, by_commit.get(revision))

    def _json(self, content: dict | list, status: int = 200, headers: dict | None = None) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
