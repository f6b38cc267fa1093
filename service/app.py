"""The HTTP side: routes, a page, and the limits on what anybody may ask. Runs as a Ray Serve deployment."""

from __future__ import annotations

import asyncio
import html
import json
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from configs import UserError
from configs.schema import Config
from envs.corpus.generate import degrade, encode
from envs.taxonomy import Degradation, Key, Taxonomy, world_taxonomy
from service import pictures, security
from service.admission import SECONDS, Admission, NoRoomError, TooLargeError, TooSlowError
from service.decision import decide_for, forced
from service.engine import Service, Unanswered
from service.pictures import Upload
from service.pixels import given_degradation
from service.reading.questions import Reading

PAGE = (Path(__file__).parent / "page.html").read_text()

app = FastAPI(title="DU-VLM restoration service", docs_url=None, redoc_url=None)
app.add_middleware(security.Guard, headers=security.page_headers(PAGE))


class Ingress:
    """One replica: owns the pools; every request is a coroutine of its event loop."""

    def __init__(self, config: Config, hosts: Sequence[str] = (), token: str = ""):
        """hosts, token: see `service.security.Access`."""
        security.ACCESS.allow(hosts, token)
        self.config, self.taxonomy = config, world_taxonomy(config.world)
        self.service, self.admission = Service(config), Admission()
        self.decoder = ThreadPoolExecutor(1)  # a picture of 16 megapixels takes 150 MB: one at a time
        self._starting = asyncio.get_running_loop().create_task(self.service.start())
        self._failure_reported = False

    async def started(self) -> None:
        """Returns when the pools answer; raises what kept them from starting."""
        try:
            await asyncio.shield(self._starting)
        finally:
            self._failure_reported = True

    async def check_health(self) -> None:
        """Serve asks, and starts a replica anew that raises; not before somebody has heard why its pools failed."""
        if self._failure_reported and self._starting.done():
            self._starting.result()

    async def __del__(self):
        await self.service.close()

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page(self) -> str:
        return PAGE

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs(self) -> str:
        """The routes as a page that needs no other host; /openapi.json is for programs."""
        return describe_routes(app.openapi())

    @app.get("/api/health")
    async def health(self) -> dict:
        """{"ready": bool}, and when ready the requests under way and what the pools have done so far."""
        ready = self._starting.done() and not self._starting.cancelled() and self._starting.exception() is None
        return {"ready": ready, **({"under_way": self.admission.under_way, **self.service.counts()} if ready else {})}

    @app.get("/api/taxonomy")
    async def types(self) -> list[dict]:
        """Types, and the range and step of each key, for sliders; `pixels`: of the square that the policy sees."""
        return describe(self.taxonomy)

    @app.post("/api/read")
    async def read(self, request: Request) -> dict:
        """Body: a picture. What the policy reads off it: {"degradation" or null, "text", "reason", "intervals",
        "confidence", "action", "size", "ratio"}.

        Lengths count pixels of the picture as sent, whose width and height are `size`. `ratio`: how many of them one
        of the policy's is where it sees the whole. `intervals`: {key: [low, high]}, 90 % of the posterior, null where
        there is none. `confidence`: probability of the type. `action`: `restored` or `left`, what `/api/restore` would
        do, and `why` it would leave the picture.
        """
        return await self._admitted(request, self._read)

    @app.post("/api/restore")
    async def restore(self, request: Request, degradation: str = "", force: int = 0) -> Response:
        """Body: a picture; `degradation`: JSON {"type", "values"}, or nothing to ask the policy; `force`: 1 restores
        what the policy read, however uncertain.

        The restored picture as PNG, of the size that was sent. The parameters are in the header X-Degradation, JSON;
        there and in `degradation` lengths count pixels of the picture. X-Action is `restored`, or `left`: then the
        picture comes back as it was read, because (X-Reason) the answer is `invalid`, nothing is wrong (`none`), or
        restoring might do harm (`uncertain`). A given degradation is always undone.
        """
        return await self._admitted(request, partial(self._restore, degradation, bool(force)))

    @app.post("/api/degrade")
    async def degrade(self, request: Request, degradation: str) -> Response:
        """Body: a picture; `degradation`: JSON {"type", "values"}, in pixels of the picture as sent.

        The degraded picture as PNG, of the size that was sent.
        """
        return await self._admitted(request, partial(self._degrade, degradation))

    async def _read(self, upload: Upload) -> dict:
        reading = await self.service.read(upload.picture)
        action, why = await self._decide(upload, reading)
        return {
            "degradation": reading.degradation and reading.degradation.as_dict(),
            "text": reading.text,
            "reason": reading.reason,
            "intervals": reading.intervals and {key: list(ends) for key, ends in reading.intervals.items()},
            "confidence": round(reading.confidence, 4),
            "action": action,
            "why": why,
            "size": upload.size,
            "ratio": self._pixels(upload),
        }

    async def _restore(self, degradation: str, force: bool, upload: Upload) -> Response:
        if degradation:
            reading = Reading(self._given(degradation, upload), "")
        else:
            reading = await self.service.read(upload.picture)
        action, reason = await self._decide(upload, reading, force)
        picture, answer = upload.picture, reading.degradation
        if action == "restored":
            picture = await self.service.restore(picture, answer, upload.coding)
        header = json.dumps(answer and answer.as_dict())
        return _png(picture, {"X-Degradation": header, "X-Action": action, "X-Reason": reason})

    async def _decide(self, upload: Upload, reading: Reading, force: bool = False) -> tuple[str, str]:
        settings = forced(self.config.restore) if force else self.config.restore
        return await asyncio.to_thread(decide_for, upload.picture, reading, settings, self.config.world.size)

    async def _degrade(self, degradation: str, upload: Upload) -> Response:
        wanted = self._given(degradation, upload)
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self.decoder, degrade, upload.picture, wanted)
        return _png(made, {"X-Degradation": json.dumps(wanted.as_dict())})

    def _given(self, text: str, upload: Upload) -> Degradation:
        """See `given_degradation`. Raises HTTPException 422 with its reason."""
        try:
            return given_degradation(json.loads(text), self.taxonomy, max(1.0, self._pixels(upload)))
        except (UserError, ValueError, RecursionError) as error:
            raise HTTPException(422, str(error)[:300]) from None

    def _pixels(self, upload: Upload) -> float:
        """How many pixels of an upload one pixel of the square that the policy sees spans."""
        return min(upload.size) / self.config.world.size

    async def _admitted(self, request: Request, work: Callable[[Upload], Awaitable]):
        """Does `work` with the picture in the body, within the limits of `service.admission`."""

        async def decoded(data: bytes):
            await self.started()
            loop = asyncio.get_running_loop()
            return await work(await loop.run_in_executor(self.decoder, pictures.read, data))

        try:
            data = await self.admission.receive(request.stream())
            return await self.admission.work(partial(decoded, data))
        except NoRoomError as error:
            raise HTTPException(503, str(error), headers={"Retry-After": "5"}) from None
        except TooLargeError as error:
            raise HTTPException(413, str(error)) from None
        except TooSlowError as error:
            raise HTTPException(408, str(error)) from None
        except pictures.PictureError as error:
            raise HTTPException(400, str(error)) from None
        except TimeoutError:
            raise HTTPException(504, f"not done within {SECONDS:.0f} s; try a smaller picture") from None
        except Unanswered as error:
            raise HTTPException(500, str(error)) from None


def describe(taxonomy: Taxonomy) -> list[dict]:
    """Makes the keys of every type as JSON. pixels: whether they count those of a picture."""

    def as_json(key: Key) -> dict:
        numbers = {name: getattr(key, name) for name in ("name", "unit", "low", "high", "step")}
        return numbers | {"shape": list(key.shape), "pixels": key.in_pixels}

    return [{"type": kind.name, "keys": [as_json(key) for key in kind.keys]} for kind in taxonomy.types]


def describe_routes(schema: dict) -> str:
    """Makes a page of an OpenAPI description: every route, its parameters, and a command that calls it."""
    parts = []
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            names = [each["name"] for each in route.get("parameters", ())]
            query = "?" + "&".join(f"{name}=..." for name in names) if names else ""
            send = "" if method == "get" else "--data-binary @photo.jpg "
            command = html.escape(f"curl {send}'http://127.0.0.1:8000{path}{query}'")
            words = html.escape(route.get("description", "")).replace("\n\n", "</p><p>")
            parts.append(f"<h2>{method.upper()} {path}</h2><p>{words}</p><pre>{command}</pre>")
    style = "body{font:16px/1.5 system-ui;max-width:46em;margin:2em auto}pre{background:#f4f6f9;padding:.6em}"
    title = html.escape(schema["info"]["title"])
    head = f"<!doctype html><html lang='en'><title>{title}</title><style>{style}</style>"
    return f"{head}<h1>{title}</h1>{''.join(parts)}"


def _png(picture, headers: dict[str, str]) -> Response:
    return Response(encode(picture), media_type="image/png", headers=headers)
