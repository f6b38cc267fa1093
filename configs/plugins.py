"""Finds what other packages add by entry points: scores (`duvlm.scorers`) and restorers (`duvlm.restorers`)."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from configs.errors import UserError

SCORERS, RESTORERS = "duvlm.scorers", "duvlm.restorers"


def names(group: str) -> tuple[str, ...]:
    """Lists what installed packages register in a group; loads nothing."""
    return tuple(sorted(_registered(group)))


@cache
def find(group: str, name: str) -> Any:
    """Loads what is registered under a name; None where nothing is.

    Raises:
        UserError: it cannot be imported.
    """
    if (entry := _registered(group).get(name)) is None:
        return None
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"{name}: {entry.value}, which a package registers in {group}, fails: {error}") from error


def version(group: str, name: str) -> str:
    """Names the package and its version that registers `name`, empty where none does: for fingerprints."""
    entry = _registered(group).get(name)
    return f"{entry.value} {entry.dist.name} {entry.dist.version}" if entry and entry.dist else ""


@cache
def _registered(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=group)}
