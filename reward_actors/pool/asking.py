"""What actors answer, as the one who asked is to see it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from configs import UserError

T = TypeVar("T")


async def asked(answer: Awaitable[T]) -> T:
    """The answer of an actor; its UserError without the actor's traceback, in which Ray wraps it."""
    try:
        return await answer
    except UserError as error:
        raise UserError(str(error.args[0])) from None
