"""What the routes take and answer, with examples: the words of /openapi.json."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, Field


class Health(BaseModel):
    """The state of the service; the numbers are there when it is ready."""

    ready: bool
    under_way: int | None = Field(None, description="requests that are worked on")
    actors: int | None = Field(None, description="reward actors, which restore")
    queued: int | None = Field(None, description="pictures and tiles that wait for one")
    scored: int | None = Field(None, description="pictures and tiles restored so far")


class DegradationKey(BaseModel):
    """One number of a degradation."""

    name: str
    unit: str
    low: float
    high: float
    step: float
    shape: list[int] = Field(description="empty for one number; (3, 3) for a matrix, and so on")
    pixels: bool = Field(description="it counts pixels: of a larger picture it may be larger in proportion")


class DegradationKind(BaseModel):
    """A type that the policy may name."""

    type: str
    keys: list[DegradationKey]


class Named(BaseModel):
    """A degradation; lengths count pixels of the picture as sent."""

    type: str
    values: dict[str, Any]


class Answer(BaseModel):
    """What was read off a picture."""

    degradation: Named | None = Field(description="null where the policy gave no valid answer")
    text: str = Field(description="its own words")
    reason: str = Field(description="why there is no degradation; else empty")
    intervals: dict[str, list] | None = Field(description="[low, high] of each number, 90 % of the posterior")
    confidence: float = Field(description="probability of the type, 0 to 1")
    action: Literal["restored", "left"] = Field(description="what /api/restore would do")
    why: Literal["", "none", "uncertain", "invalid"] = Field(description="why it would leave the picture")
    size: tuple[int, int] = Field(description="width and height")
    ratio: float = Field(description="pixels of the picture that one pixel of the policy's spans, seen as a whole")


class Problem(BaseModel):
    """Why there is no answer, in one sentence."""

    detail: str


_PICTURE = {"schema": {"type": "string", "format": "binary"}}
BODY = {
    "requestBody": {
        "required": True,
        "description": "The bytes of a picture: at most 16 MiB, 16 megapixels, 16 times as long as wide; from 32 px.",
        "content": dict.fromkeys(("image/jpeg", "image/png", "image/webp", "image/bmp"), _PICTURE),
    }
}
"""What a route takes whose body is a picture."""

PROBLEMS: dict[int | str, dict] = {
    status: {"model": Problem, "description": words}
    for status, words in {
        400: "The body is no picture that is taken.",
        408: "The body arrives too slowly.",
        413: "The body is larger than 16 MiB.",
        422: "The parameters are not as described.",
        500: "It could not be done.",
        503: "Too many requests are under way; Retry-After says when to come again.",
        504: "It took too long.",
    }.items()
}
"""What a route answers that takes a picture and cannot do its work."""


def json_answer(words: str, example) -> dict[int | str, dict]:
    """Describes an answer that is JSON, by an example."""
    return {200: {"description": words, "content": {"application/json": {"example": example}}}}


def picture_answer(words: str, **headers: str) -> dict[int | str, dict]:
    """Describes an answer that is a PNG, and what its headers say."""
    string = {"schema": {"type": "string"}}
    described = {f"X-{name.title()}": {"description": meaning, **string} for name, meaning in headers.items()}
    return {200: {"description": words, "content": {"image/png": _PICTURE}, "headers": described}}


HEALTH = json_answer("The state.", {"ready": True, "under_way": 1, "actors": 2, "queued": 0, "scored": 12})
_SIGMA = {"name": "sigma", "unit": "px", "low": 0.3, "high": 6.0, "step": 0.01, "shape": [], "pixels": True}
_BLUR = json.loads('{"type": "blur", "values": {"sigma": 2.04}}')
TAXONOMY = json_answer("Every type.", [{"type": _BLUR["type"], "keys": [_SIGMA]}])
ANSWER = json_answer(
    "What was read.",
    {
        "degradation": _BLUR,
        "text": "Mild blur.[T-blur][K-sigma][V-sigma-204]",
        "reason": "",
        "intervals": {"sigma": [1.91, 2.2]},
        "confidence": 0.9987,
        "action": "restored",
        "why": "",
        "size": [700, 512],
        "ratio": 4.0,
    },
) | PROBLEMS
_DEGRADATION = "the degradation as JSON, null where there is no valid answer"
RESTORED = picture_answer(
    "The restored picture, or the picture as it was read.",
    degradation=_DEGRADATION,
    action="restored, or left",
    reason="why it was left: invalid (no valid answer), none (nothing is wrong), uncertain (restoring might do harm)",
) | PROBLEMS
DEGRADED = picture_answer("The degraded picture.", degradation=_DEGRADATION) | PROBLEMS
