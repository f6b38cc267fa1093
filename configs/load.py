"""Schema defaults < track/common.yaml < track/JOB.yaml < key=value: one checked `Config`.

A track is a folder beside this file (`track=tiny`, the default, or `track=qwen3vl_8b`). OmegaConf merges its
files, which may refer to other values as ${section.key}; what people type is checked here, field by field.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from omegaconf import OmegaConf

from configs.errors import UserError
from configs.schema import Config

JOBS = ("corpus", "review", "prior", "sft", "offline", "online", "evaluate", "ablate", "restore", "fit-iqa", "rewards")
TRACKS = Path(__file__).parent / "tracks"


def load(job: str, overrides: Sequence[str] = ()) -> Config:
    """The settings of `job` under `overrides`, each a dotted `key=value`; `track=NAME` chooses the track.

    Raises:
        UserError: unknown job, track or key (the nearest is named), wrong type, value out of range.
    """
    if job not in (*JOBS, "serve"):
        raise UserError(f"unknown job {job!r}: expected one of {', '.join(JOBS)}{_nearest(job, JOBS)}")
    config, pairs = Config(), [_pair(text) for text in overrides]
    track = next((value for key, value in reversed(pairs) if key == "track"), "tiny")
    settings = OmegaConf.merge(*map(OmegaConf.load, _track_files(track, job)))
    set_tree(config, OmegaConf.to_container(settings, resolve=True), f"track={track}")
    override(config, [text for text, (key, _) in zip(overrides, pairs, strict=True) if key != "track"])
    return config


def override(config: Config, overrides: Sequence[str]) -> None:
    """Sets `key=value`s; the whole is checked then."""
    for text in overrides:
        set_field(config, *_pair(text))
    _check_together(config)


def set_tree(config: Config, tree: dict, source: str) -> None:
    """Sets what a YAML file says; `source` names it in errors."""
    for key, value in _flat(tree):
        set_field(config, key, value, source)


def tracks() -> list[str]:
    return sorted(file.parent.name for file in TRACKS.glob("*/common.yaml"))


def run_folder(config: Config, job: str) -> Path:
    """Where `job` writes: `config.out`, or runs/NAME/JOB (NAME is `default` if not given). Not created."""
    return Path(config.out) if config.out else Path("runs", config.name or "default", job)


def config_to_yaml(config: Config, job: str) -> str:
    """The resolved settings and, in a comment, what they are of; `configs.run_folders.reopen` reads them back."""
    settings = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)
    return f"# job: {job}\n{settings}"


def leaves(section: Any = Config, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field, type]]:
    """(dotted key, field with its metadata, type) of every setting, in the order of the schema."""
    hints = get_type_hints(section)
    for field in dataclasses.fields(section):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from leaves(kind, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field, kind


def set_field(config: Config, key: str, value: Any, source: str = "") -> None:
    """Checks `value` (typed, or text as typed on a command line) against the schema and sets it."""
    known = {name: (field, kind) for name, field, kind in leaves()}
    where = f"{source}: " if source else ""
    if key not in known:
        raise UserError(f"{where}unknown setting {key!r}{_nearest(key, known)}; `duvlm run --help` lists all")
    field, kind = known[key]
    try:
        value = _typed(value, kind)
        if kind == list[float] and len(value) != len(field.default_factory()):
            raise ValueError(f"expected {len(field.default_factory())} numbers as in [0.1,0.2], got {len(value)}")
        if value == [] and field.default_factory():
            raise ValueError("expected words as in [a,b], got none")
        _check(value, **{name: field.metadata[name] for name in ("low", "high", "choices")})
    except ValueError as error:
        raise UserError(f"{where}{key}: {error}. {field.metadata['help']}") from None
    *sections, name = key.split(".")
    for section in sections:
        config = getattr(config, section)
    setattr(config, name, value)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"expected key=value, got {text!r}; for example `steps=100` or `reward.actors=4`")
    return key.strip(), value


def _track_files(track: str, job: str) -> list[Path]:
    if track not in tracks():
        raise UserError(f"unknown track {track!r}: expected one of {', '.join(tracks())}{_nearest(track, tracks())}")
    files = (TRACKS / track / "common.yaml", TRACKS / track / f"{job}.yaml")
    return [file for file in files if file.exists()]


def _flat(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _typed(value: Any, kind: type) -> Any:
    """`value` as `kind`. Text is read as meant; numbers never become text, nor fractions integers."""
    if kind is str:
        if isinstance(value, str):
            return value
        raise ValueError(f"expected text, got {value!r}")
    if kind is bool:
        word = str(value).lower()
        if word in ("true", "false", "yes", "no", "on", "off"):
            return word in ("true", "yes", "on")
        raise ValueError(f"expected true or false, got {value!r}")
    if kind in (int, float):
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number) or (kind is int and number != int(number)):
            raise ValueError(f"expected {'a whole' if kind is int else 'a'} number, got {value!r}")
        return kind(number)
    if isinstance(value, str):
        value = [part.strip() for part in value.strip("[] ").split(",") if part.strip()]
    if kind == list[float] and isinstance(value, list):
        return [_typed(item, float) for item in value]
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"expected words as in [a,b], got {value!r}")
    return value


def _check(value: Any, low: float | None, high: float | None, choices: tuple) -> None:
    for item in value if isinstance(value, list) else [value]:
        if choices and item not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}, got {item!r}{_nearest(item, choices)}")
        if low is not None and item < low or high is not None and item > high:
            raise ValueError(f"expected {low} .. {high}, got {item}")


def _check_together(config: Config) -> None:
    """What one field alone cannot say."""
    if not re.fullmatch(r"[\w.-]*", config.name) or config.name.startswith("."):
        raise UserError(f"name: expected letters, digits, - _ ., got {config.name!r}; a folder goes to out=")
    if config.degradation:
        example = '{"type": "blur", "values": {"sigma": 2.0}}'
        try:
            found = json.loads(config.degradation)
        except json.JSONDecodeError as error:
            found = error
        right = isinstance(found, dict) and set(found) == {"type", "values"}
        if not right or not isinstance(found["values"], dict):
            why = f" ({found})" if isinstance(found, Exception) else ""
            got = config.degradation[:80]
            raise UserError(f"degradation: expected JSON such as {example}, got {got!r}{why}")


def _nearest(word: Any, known) -> str:
    known = list(known)
    matches = [name for name in known if name.rpartition(".")[2] == str(word)]  # `group_size` for `rollout.group_size`
    matches = matches or difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
