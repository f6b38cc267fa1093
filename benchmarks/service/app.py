"""The HTTP side: three routes, a page, and the limits on what anybody may ask. Runs as a Ray Serve deployment."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from benchmarks.quality.restore import given_degradation
from benchmarks.service import pictures
from benchmarks.service.engine import NoRoomError, Service, Unanswered
from configs import UserError
from configs.schema import Config
from envs.corpus import encode
from envs.policy_world import world_taxonomy
from envs.taxonomy import Taxonomy

PAGE = Path(__file__).parent / "page.html"
SECONDS = 120.0
"""A request that takes longer is given up (504)."""

app = FastAPI(title="DU-VLM restoration service", docs_url="/docs", redoc_url=None)


class Ingress:
    """One replica: owns the pools; every request is a coroutine of its event loop."""

    def __init__(self, config: Config):
        self.config, self.taxonomy = config, world_taxonomy(config.world)
        self.service = Service(config)
        self._starting = asyncio.get_running_loop().create_task(self.service.start())

    async def check_health(self) -> None:
        """Serve asks; raises what kept the pools from starting."""
        if self._starting.done():
            self._starting.result()

    async def __del__(self):
        await self.service.close()

    @app.get("/", response_class=HTMLResponse)
    async def page(self) -> str:
        return PAGE.read_text()

    @app.get("/api/health")
    async def health(self) -> dict:
        """{"ready": bool} and what the pools have done so far."""
        ready = self._starting.done() and not self._starting.cancelled() and self._starting.exception() is None
        return {"ready": ready, **(self.service.counts() if ready else {})}

    @app.get("/api/taxonomy")
    async def types(self) -> list[dict]:
        """Types, and the range and step of each key, for sliders."""
        return describe(self.taxonomy)

    @app.post("/api/read")
    async def read(self, request: Request) -> dict:
        """Body: a picture. What the policy reads off it: {"degradation" or null, "text"}."""
        picture = await _picture(request)
        answer = await self._within_time(self.service.read(picture))
        found = answer.degradation.as_dict() if answer.degradation else None
        return {"degradation": found, "text": answer.text, "size": [picture.shape[1], picture.shape[0]]}

    @app.post("/api/restore")
    async def restore(self, request: Request, degradation: str = "") -> Response:
        """Body: a picture; `degradation`: JSON {"type", "values"}, or nothing to ask the policy.

        The restored picture as PNG; the parameters are in the header X-Degradation, JSON.
        """
        picture = await _picture(request)
        if degradation:
            wanted = _degradation(degradation, self.taxonomy, max(1.0, min(picture.shape[:2]) / self.config.world.size))
        else:
            wanted = (await self._within_time(self.service.read(picture))).degradation
            if wanted is None:
                raise HTTPException(422, "the policy gave no valid answer for this picture; pass `degradation`")
        restored = await self._within_time(self.service.restore(picture, wanted))
        headers = {"X-Degradation": json.dumps(wanted.as_dict())}
        return Response(encode(restored), media_type="image/png", headers=headers)

    async def _within_time(self, work):
        try:
            async with asyncio.timeout(SECONDS):
                await asyncio.shield(self._starting)
                return await work
        except TimeoutError:
            raise HTTPException(504, f"not done within {SECONDS:.0f} s; try a smaller picture") from None
        except NoRoomError as error:
            raise HTTPException(503, str(error), headers={"Retry-After": "5"}) from None
        except Unanswered as error:
            raise HTTPException(500, str(error)) from None
        finally:
            work.close()


def describe(taxonomy: Taxonomy) -> list[dict]:
    """The scalar keys of every single type, as JSON."""
    return [
        {
            "type": kind.name,
            "keys": [
                {"name": k.name, "unit": k.unit, "low": k.low, "high": k.high, "step": k.step, "shape": list(k.shape)}
                for k in kind.keys
            ],
        }
        for kind in taxonomy.types
    ]


async def _picture(request: Request):
    """The body as a picture. What is too large is read on, so that the sender hears why, but not kept."""
    data, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > pictures.MAX_BYTES:
            data.clear()
        else:
            data += chunk
        if size > 4 * pictures.MAX_BYTES:
            break
    if size > pictures.MAX_BYTES:
        raise HTTPException(413, f"at most {pictures.MAX_BYTES // 2**20} MiB")
    try:
        return await asyncio.to_thread(pictures.read, bytes(data))
    except pictures.PictureError as error:
        raise HTTPException(400, str(error)) from None


def _degradation(text: str, taxonomy: Taxonomy, ratio: float):
    try:
        return given_degradation(json.loads(text), taxonomy, ratio)
    except (UserError, ValueError, RecursionError) as error:
        raise HTTPException(422, str(error)[:300]) from None
