"""Reads files that others may have damaged: each reader names the file and what is wrong with it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from configs.errors import UserError


def read_json(file: Path, keys: Sequence[str] = (), cure: str = "") -> dict:
    """Reads a JSON object.

    Args:
        keys: what it must have.
        cure: what to do where it is damaged, for the error.

    Raises:
        UserError: the file is missing, cannot be read, or holds something else.
    """
    return _read(file, json.loads, "JSON object", keys, cure)


def read_yaml(file: Path, keys: Sequence[str] = (), cure: str = "") -> dict:
    """Reads a YAML mapping; arguments and errors as those of `read_json`."""
    return _read(file, yaml.safe_load, "YAML mapping", keys, cure)


def read_json_lines(file: Path) -> tuple[list[dict], list[int]]:
    """Reads a file of JSON objects, one a line; of lines that are none it returns the numbers, from 1.

    A last line without its end, which a kill has cut short, is left out.
    """
    rows, damaged = [], []
    for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        rows.append(row) if isinstance(row, dict) else damaged.append(number)
    return rows, damaged


def damaged(file: Path, why: object, cure: str = "") -> UserError:
    """Makes the error of a damaged file."""
    reason = " ".join(str(why).split())[:160]
    return UserError(f"{file} is damaged ({reason})" + (f": {cure}" if cure else ""))


def write_atomically(file: Path, text: str) -> None:
    """Replaces `file` in one step: a reader sees the old text or the new, never half."""
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    aside.write_text(text)
    os.replace(aside, file)


def _read(file: Path, parse: Callable[[str], Any], expected: str, keys: Sequence[str], cure: str) -> dict:
    try:
        content = parse(Path(file).read_bytes().decode())
    except FileNotFoundError:
        raise UserError(f"{file} is missing" + (f": {cure}" if cure else "")) from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise damaged(file, f"expected a {expected}; {error}", cure) from None
    if not isinstance(content, dict):
        raise damaged(file, f"expected a {expected}, got {str(content)[:40]!r}", cure)
    if lacking := [key for key in keys if key not in content]:
        raise damaged(file, f"it has no {', '.join(lacking)}", cure)
    return content
