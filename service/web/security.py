"""Checks who may talk to the service: names it answers to, pages that may call it, a token where one is set.

Any web page can post to an address of this machine, and by DNS rebinding read the answer: both show in the headers
`Origin` and `Host`, which are compared with the names that the service was started for.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
EVERYWHERE = frozenset({"0.0.0.0", "::"})
"""Addresses that mean every address of the machine."""
TOKEN_HEADER = "x-duvlm-token"


class Access:
    """Holds what is allowed; one of it a process, set when the service starts there.

    hosts: names in `Host` and `Origin` that are accepted; "*" among them stands for any `Host`, an address of
        `EVERYWHERE` for any address as a number, which no foreign name can be made to stand for.
    token: what callers must bring in `X-DUVLM-Token` or as `?token=`; nothing if it is empty.
    """

    def __init__(self):
        self.hosts: frozenset[str] = LOCAL
        self.token = ""

    def allow(self, hosts: Sequence[str], token: str) -> None:
        self.hosts = LOCAL | {host.lower() for host in hosts}
        self.token = token

    def refusal(self, headers: dict[str, str], query: dict[str, str]) -> tuple[int, str] | None:
        """Returns (status, why) of a request that is not served; None where it is."""
        host, origin = _name(headers.get("host", "")), headers.get("origin", "")
        if not self._answers_to(host):
            return 421, f"this service does not answer to {headers.get('host', '')!r}; start it with --allow-host"
        if origin and (urlsplit(origin).hostname or "") not in self.hosts | {host}:
            return 403, f"pages of {origin!r} may not call this service; start it with --allow-host"
        given = headers.get(TOKEN_HEADER) or query.get("token", "")
        if self.token and not hmac.compare_digest(given.encode(), self.token.encode()):
            return 401, "expected the token of this service in the header X-DUVLM-Token, or as ?token="
        return None

    def _answers_to(self, host: str) -> bool:
        return host in self.hosts or "*" in self.hosts or (bool(self.hosts & EVERYWHERE) and _is_address(host))


ACCESS = Access()


def page_headers(page: str) -> list[tuple[bytes, bytes]]:
    """Makes the headers of every answer. Of scripts only those written in `page` run; nobody may frame it."""
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{each}'" for each in hashes) or "'none'"
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
    }
    return [(name.encode(), value.encode()) for name, value in headers.items()]


class Guard:
    """Refuses requests that `ACCESS` does not allow, and adds `headers` to every answer. ASGI middleware."""

    def __init__(self, app, headers: list[tuple[bytes, bytes]]):
        self._app, self._headers = app, headers

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *self._headers]}
            await send(message)

        from starlette.requests import Request
        from starlette.responses import JSONResponse

        request = Request(scope)
        refused = ACCESS.refusal(dict(request.headers), dict(request.query_params))
        if refused:
            status, why = refused
            return await JSONResponse({"detail": why}, status)(scope, receive, send_with_headers)
        return await self._app(scope, receive, send_with_headers)


def _name(host: str) -> str:
    """The name in a `Host` header, without its port."""
    return (urlsplit(f"//{host}").hostname or "").lower()


def _is_address(name: str) -> bool:
    try:
        return bool(ip_address(name))
    except ValueError:
        return False
