"""The HTTP side: three routes, a page, and the limits on what anybody may ask. Runs as a Ray Serve deployment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from configs.schema import Config
from envs.corpus.generate import encode
from envs.taxonomy import Key, Taxonomy
from envs.world import world_taxonomy
from service import pictures, uploads
from service.admission import SECONDS, NoRoomError, Room
from service.engine import Service, Unanswered
from service.pictures import Upload
from service.pixels import reduced, to_photo

PAGE = Path(__file__).parent / "page.html"

app = FastAPI(title="DU-VLM restoration service", docs_url="/docs", redoc_url=None)


class Ingress:
    """One replica: owns the pools; every request is a coroutine of its event loop."""

    def __init__(self, config: Config):
        self.config, self.taxonomy = config, world_taxonomy(config.world)
        self.service, self.room = Service(config), Room()
        self.decoder = ThreadPoolExecutor(1)  # a picture of 40 megapixels takes 360 MB: one at a time
        self._starting, self._told = asyncio.get_running_loop().create_task(self.service.start()), False

    async def started(self) -> None:
        """Returns when the pools answer; raises what kept them from starting."""
        try:
            await asyncio.shield(self._starting)
        finally:
            self._told = True

    async def check_health(self) -> None:
        """Serve asks, and starts a replica anew that raises; not before somebody has heard why its pools failed."""
        if self._told and self._starting.done():
            self._starting.result()

    async def __del__(self):
        await self.service.close()

    @app.get("/", response_class=HTMLResponse)
    async def page(self) -> str:
        return PAGE.read_text()

    @app.get("/api/health")
    async def health(self) -> dict:
        """{"ready": bool}, and when ready the requests under way and what the pools have done so far."""
        ready = self._starting.done() and not self._starting.cancelled() and self._starting.exception() is None
        return {"ready": ready, **({"under_way": self.room.under_way, **self.service.counts()} if ready else {})}

    @app.get("/api/taxonomy")
    async def types(self) -> list[dict]:
        """Types, and the range and step of each key, for sliders; `pixels`: of the square that the policy sees."""
        return describe(self.taxonomy)

    @app.post("/api/read")
    async def read(self, request: Request) -> dict:
        """Body: a picture. What the policy reads off it: {"degradation" or null, "text", "size", "ratio"}.

        `sigma` and `scale` count pixels of the picture as sent, whose width and height are `size`. `ratio`: how many of
        them one of the policy's is.
        """
        return await self._admitted(request, self._read)

    @app.post("/api/restore")
    async def restore(self, request: Request, degradation: str = "") -> Response:
        """Body: a picture; `degradation`: JSON {"type", "values"}, or nothing to ask the policy.

        The restored picture as PNG, reduced to a long side of 512 px where it is larger. The parameters are in the
        header X-Degradation, JSON; there and in `degradation` `sigma` and `scale` count pixels of the picture as sent.
        """
        return await self._admitted(request, partial(self._restore, degradation))

    async def _read(self, upload: Upload) -> dict:
        answer = await self.service.read(upload.picture)
        found = answer.degradation and to_photo(answer.degradation, upload.ratio).as_dict()
        return {"degradation": found, "text": answer.text, "size": upload.size, "ratio": self._pixels(upload)}

    async def _restore(self, degradation: str, upload: Upload) -> Response:
        if degradation:
            wanted = uploads.given(degradation, self.taxonomy, max(1.0, self._pixels(upload)))
            here = reduced(wanted, upload.ratio)
        else:
            here = (await self.service.read(upload.picture)).degradation
            if here is None:
                raise HTTPException(422, "the policy gave no valid answer for this picture; pass `degradation`")
            wanted = to_photo(here, upload.ratio)
        restored = await self.service.restore(upload.picture, here)
        headers = {"X-Degradation": json.dumps(wanted.as_dict())}
        return Response(encode(restored), media_type="image/png", headers=headers)

    def _pixels(self, upload: Upload) -> float:
        """How many pixels of an upload one pixel of the square that the policy sees spans."""
        return min(upload.size) / self.config.world.size

    async def _admitted(self, request: Request, work: Callable[[Upload], Awaitable]):
        """Does `work` with the picture in the body, within the limits of the room."""

        async def decoded(data: bytes):
            await self.started()
            loop = asyncio.get_running_loop()
            return await work(await loop.run_in_executor(self.decoder, pictures.read, data))

        try:
            return await self.room.admit(partial(uploads.body, request), decoded)
        except NoRoomError as error:
            await uploads.received(request, 0)  # so that the sender hears why
            raise HTTPException(503, str(error), headers={"Retry-After": "5"}) from None
        except pictures.PictureError as error:
            raise HTTPException(400, str(error)) from None
        except TimeoutError:
            raise HTTPException(504, f"not done within {SECONDS:.0f} s; try a smaller picture") from None
        except Unanswered as error:
            raise HTTPException(500, str(error)) from None


def describe(taxonomy: Taxonomy) -> list[dict]:
    """The keys of every type, as JSON. pixels: whether they count those of a picture."""

    def as_json(key: Key) -> dict:
        numbers = {name: getattr(key, name) for name in ("name", "unit", "low", "high", "step")}
        return numbers | {"shape": list(key.shape), "pixels": key.in_pixels}

    return [{"type": kind.name, "keys": [as_json(key) for key in kind.keys]} for kind in taxonomy.types]
