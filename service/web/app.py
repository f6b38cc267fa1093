"""The HTTP side: routes, a page, and the limits on what anybody may ask. Runs as a Ray Serve deployment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response

from configs import UserError
from configs.schema import Config
from envs.corpus.generate import degrade
from envs.taxonomy import Degradation, Key, Taxonomy, world_taxonomy
from service import pictures
from service.decision import decide_for, forced
from service.engine import Service, Unanswered
from service.pictures import Photo
from service.pixels import given_degradation
from service.reading.questions import Reading
from service.web import description as about
from service.web import security
from service.web.admission import SECONDS, Admission, NoRoomError, TooLargeError, TooSlowError
from service.web.pages import render_page, render_routes

PAGE = render_page()
_EXAMPLE = ['{"type":"blur","values":{"sigma":2.0}}']
Wanted = Annotated[str, Query(description="JSON, in pixels of the picture.", examples=_EXAMPLE)]
Given = Annotated[str, Query(description="What to undo, as JSON, in pixels of the picture.", examples=_EXAMPLE)]
Force = Annotated[bool, Query(description="Restore what the policy read, however uncertain.", examples=["1"])]

app = FastAPI(
    title="DU-VLM restoration service",
    description="Reads what is wrong with a photograph, and restores it. With --token, send it as X-DUVLM-Token.",
    version="1",
    generate_unique_id_function=lambda route: route.name,
    docs_url=None,
    redoc_url=None,
)
app.add_middleware(security.Guard, headers=security.page_headers(PAGE))


@app.exception_handler(RequestValidationError)
async def _tell(request: Request, error: RequestValidationError) -> JSONResponse:
    """Says in a sentence which parameter is not as it should be."""
    first = error.errors()[0]
    return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}"}, 422)


class Ingress:
    """One replica: owns the pools; every request is a coroutine of its event loop."""

    def __init__(self, config: Config, hosts: Sequence[str] = (), token: str = ""):
        """hosts, token: see `service.web.security.Access`."""
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
    async def docs(self, request: Request) -> str:
        return render_routes(request.app.openapi())

    @app.get("/api/health", response_model=about.Health, response_model_exclude_none=True, responses=about.HEALTH)
    async def health(self) -> dict:
        """Says whether the service is ready, and what it has done so far."""
        ready = self._starting.done() and not self._starting.cancelled() and self._starting.exception() is None
        return {"ready": ready, **({"under_way": self.admission.under_way, **self.service.counts()} if ready else {})}

    @app.get("/api/taxonomy", response_model=list[about.DegradationKind], responses=about.TAXONOMY)
    async def types(self) -> list[dict]:
        """Lists the types that the policy may name, with range and step of each number."""
        return describe(self.taxonomy)

    @app.post("/api/read", response_model=about.Answer, responses=about.ANSWER, openapi_extra=about.BODY)
    async def read(self, request: Request) -> dict:
        """Reads off a picture what is wrong with it, how strong, and how sure that is."""
        return await self._admitted(request, self._read)

    @app.post("/api/restore", response_class=Response, responses=about.RESTORED, openapi_extra=about.BODY)
    async def restore(self, request: Request, degradation: Given = "", force: Force = False) -> Response:
        """Restores a picture, by what the policy reads off it or by a given degradation.

        The answer is a PNG of the size that was sent, with the Exif tags that were sent, where it was taken included:
        it goes back to the one who sent it. It stands upright, so orientation is 1. A picture that is better left
        comes back as it was read; a given degradation is always undone.
        """
        return await self._admitted(request, partial(self._restore, degradation, force))

    @app.post("/api/degrade", response_class=Response, responses=about.DEGRADED, openapi_extra=about.BODY)
    async def degrade(self, request: Request, degradation: Wanted) -> Response:
        """Degrades a picture by given numbers: what a reading should find."""
        return await self._admitted(request, partial(self._degrade, degradation))

    async def _read(self, upload: Photo) -> dict:
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

    async def _restore(self, degradation: str, force: bool, upload: Photo) -> Response:
        if degradation:
            reading = Reading(self._given(degradation, upload), "")
        else:
            reading = await self.service.read(upload.picture)
        action, reason = await self._decide(upload, reading, force)
        picture, answer = upload.picture, reading.degradation
        if action == "restored":
            picture = await self.service.restore(picture, answer, upload.coding)
        header = json.dumps(answer and answer.as_dict())
        return _png(upload, picture, {"X-Degradation": header, "X-Action": action, "X-Reason": reason})

    async def _decide(self, upload: Photo, reading: Reading, force: bool = False) -> tuple[str, str]:
        settings = forced(self.config.restore) if force else self.config.restore
        return await asyncio.to_thread(decide_for, upload.picture, reading, settings, self.config.world.size)

    async def _degrade(self, degradation: str, upload: Photo) -> Response:
        wanted = self._given(degradation, upload)
        loop = asyncio.get_running_loop()
        made = await loop.run_in_executor(self.decoder, degrade, upload.picture, wanted)
        return _png(upload, made, {"X-Degradation": json.dumps(wanted.as_dict())})

    def _given(self, text: str, upload: Photo) -> Degradation:
        """See `given_degradation`. Raises HTTPException 422 with its reason."""
        try:
            return given_degradation(json.loads(text), self.taxonomy, max(1.0, self._pixels(upload)))
        except (UserError, ValueError, RecursionError) as error:
            raise HTTPException(422, str(error)[:300]) from None

    def _pixels(self, upload: Photo) -> float:
        """How many pixels of an upload one pixel of the square that the policy sees spans."""
        return min(upload.size) / self.config.world.size

    async def _admitted(self, request: Request, work: Callable[[Photo], Awaitable]):
        """Does `work` with the picture in the body, within the limits of `service.web.admission`."""

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


def _png(photo: Photo, made: np.ndarray, headers: dict[str, str]) -> Response:
    return Response(photo.png(made), media_type="image/png", headers=headers)
