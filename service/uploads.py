"""What a request brings: the bytes in its body, and the degradation in its query; or why they are not taken."""

from __future__ import annotations

import json

from fastapi import HTTPException, Request

from configs import UserError
from envs.taxonomy import Degradation, Taxonomy
from service.pictures import MAX_BYTES
from service.pixels import given_degradation


async def body(request: Request) -> bytes:
    """Raises HTTPException 413 where it is longer than `MAX_BYTES`."""
    data = await received(request, MAX_BYTES)
    if data is None:
        raise HTTPException(413, f"at most {MAX_BYTES // 2**20} MiB")
    return data


async def received(request: Request, most: int) -> bytes | None:
    """The body, None where it is longer than `most`: that is read on, so that the sender hears why, but not kept."""
    data, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            data.clear()
        else:
            data += chunk
        if size > 4 * MAX_BYTES:
            break
    return bytes(data) if size <= most else None


def given(text: str, taxonomy: Taxonomy, ratio: float) -> Degradation:
    """See `given_degradation`. Raises HTTPException 422 with its reason."""
    try:
        return given_degradation(json.loads(text), taxonomy, ratio)
    except (UserError, ValueError, RecursionError) as error:
        raise HTTPException(422, str(error)[:300]) from None
