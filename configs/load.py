"""Merges settings: schema defaults < track/common.yaml < track/JOB.yaml < key=value, into one checked `Config`.

A track is a folder beside this file (`track=tiny`, the default, or `track=qwen3vl_8b`); `world=paper` and `world=open`
are presets of `world.*`, in a track's file too, which come before any `world.KEY=`. Without `world=`, the world is that
of the folder `policy=`, else that of the folder `corpus=`, else the track's. OmegaConf types the values and
resolves `${section.key}`, which refers to another value; ranges are those of the schema.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.errors import UserError
from configs.jobs import jobs
from configs.schema import ALIASES, WORLDS, Config, World
from configs.settings import Setting, settings

TRACKS = Path(__file__).parent / "tracks"


def load(job: str, overrides: Sequence[str] = ()) -> Config:
    """Returns the settings of `job` under `overrides`, each a dotted `key=value`; `track=NAME` chooses the track.

    Raises:
        UserError: unknown job, track or key (the nearest is named), wrong type, value out of range.
    """
    if job not in jobs():
        runnable = [name for name, each in jobs().items() if not each.own_command]
        raise UserError(f"unknown job {job!r}: expected one of {', '.join(runnable)}{nearest(job, runnable)}")
    pairs = [parse_pair(text) for text in overrides]
    track = next((value for key, value in reversed(pairs) if key == "track"), "tiny")
    pairs = with_world([(key, value) for key, value in pairs if key != "track"])
    config = OmegaConf.structured(Config)
    for file in _track_files(track, job):
        _assign(config, with_world(list(_flat(OmegaConf.to_container(OmegaConf.load(file))))), f"track={track}: ")
    _assign(config, pairs)
    if not any(text.partition("=")[0].strip() == "world" for text in overrides):
        _assign(config, [*_given_world(_checked(config)).items(), *pairs])
    return _checked(config)


def changed(config: Config, values: Mapping[str, Any], source: str = "") -> Config:
    """Returns a copy of `config` with other `values`, typed or as text, by dotted key.

    source: where the values are from, for the error: `ablate`, a file.

    Raises:
        UserError: unknown key, wrong type, value out of range.
    """
    copy, prefix = OmegaConf.structured(config), f"{source}: " if source else ""
    _assign(copy, _flat(values), prefix)
    return _checked(copy, prefix)


def parse_pair(text: str) -> tuple[str, str]:
    """Splits `key=value`. Raises UserError where the text is none."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"expected key=value, got {text!r}; for example `steps=100` or `reward.actors=4`")
    return key.strip(), value


def with_world(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, Any]]:
    """Puts the settings that `world=NAME` stands for before all others. Raises UserError for an unknown world."""
    preset: dict[str, Any] = {}
    for name in (value for key, value in pairs if key == "world"):
        if name not in WORLDS:
            raise UserError(f"world: expected one of {', '.join(WORLDS)}, got {name!r}{nearest(name, WORLDS)}")
        preset = {f"world.{key}": value for key, value in WORLDS[name].items()}
    return [*preset.items(), *((key, value) for key, value in pairs if key != "world")]


def _given_world(config: Config) -> dict[str, Any]:
    """Reads `world.*` of the folders `policy=` and `corpus=` (else `probe=`), as far as they are there and say it.

    A policy decides the language of answers; whether pictures have measured depth or nuisances, its corpus knows.
    """
    of_policy, card = _read_card(config.policy, "world.json"), _read_card(config.corpus or config.probe, "corpus.json")
    of_corpus = {"size": card["size"], **card["world"]} if {"size", "world"} <= set(card) else {}
    if not of_policy and not of_corpus:
        return {}
    pictures = {name: of_corpus[name] for name in ("depth", "nuisances") if name in of_corpus}
    given = dataclasses.asdict(World()) | (of_policy | pictures if of_policy else of_corpus)
    return {f"world.{key}": given[key] for key in dataclasses.asdict(World())}


def _read_card(folder: str, name: str) -> dict[str, Any]:
    """Reads the JSON of a folder; empty where there is none: what is wrong with it, the job that opens it says."""
    try:
        content = json.loads((Path(folder) / name).read_text()) if folder else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def tracks() -> list[str]:
    """Lists the names of the tracks."""
    return sorted(file.parent.name for file in TRACKS.glob("*/common.yaml"))


def run_folder(config: Config, job: str) -> Path:
    """Returns where `job` writes: `config.out`, or runs/NAME/JOB (NAME is `default` if not given). Not created."""
    return Path(config.out) if config.out else Path("runs", config.name or "default", job)


def config_to_yaml(config: Config, job: str) -> str:
    """Writes the resolved settings and, in a comment, the job; `configs.run_folders.reopen` reads them back."""
    text = yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)
    return f"# job: {job}\n{text}"


def nearest(word: Any, known: Iterable[str]) -> str:
    """Suggests the known word that is most like `word`, in brackets; empty where none is."""
    known = list(known)
    matches = [name for name in known if name.rpartition(".")[2] == str(word)]  # `group_size` for `rollout.group_size`
    matches = matches or difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def _track_files(track: str, job: str) -> list[Path]:
    if track not in tracks():
        raise UserError(f"unknown track {track!r}: expected one of {', '.join(tracks())}{nearest(track, tracks())}")
    files = (TRACKS / track / "common.yaml", TRACKS / track / f"{job}.yaml")
    return [file for file in files if file.exists()]


def _flat(tree: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted key, value) of a nested mapping."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _assign(config: DictConfig, values: Iterable[tuple[str, Any]], source: str = "") -> None:
    """Sets values by dotted key, each typed as the schema asks."""
    for key, value in values:
        key = ALIASES.get(key, key)
        if not key:
            continue
        if key not in settings():
            suggestion = nearest(key, settings())
            raise UserError(f"{source}unknown setting {key!r}{suggestion}; `duvlm run --help` lists all")
        setting = settings()[key]
        try:
            OmegaConf.update(config, key, _parsed(value, setting))
        except OmegaConfBaseException:
            items = _parsed(value, setting) if setting.choices and setting.is_list else [value]
            item = next((item for item in items if item not in setting.choices), value)
            suggestion = nearest(item, setting.choices)
            wrong = f"expected {setting.expected}, got {item!r}{suggestion}"
            raise UserError(f"{source}{key}: {wrong}. {setting.help}") from None


def _parsed(value: Any, setting: Setting) -> Any:
    """Reads text that OmegaConf leaves to us: `[a,b]` or `a,b` is a list, and `1e3` a whole number."""
    if not isinstance(value, str):
        return value
    if setting.is_list and not value.startswith("${"):
        return [part.strip() for part in value.strip("[] ").split(",") if part.strip()]
    if setting.kind is int and re.fullmatch(r"[+-]?\d+\.?\d*(e\+?\d)?", value.strip().lower()):
        return int(float(value)) if float(value).is_integer() else value
    return value


def _checked(tree: DictConfig, source: str = "") -> Config:
    """Resolves references and returns the settings, every one within its range."""
    try:
        config = OmegaConf.to_object(tree)
    except OmegaConfBaseException as error:
        raise UserError(f"{source}{error.full_key}: {str(error).splitlines()[0]}") from None
    for key, setting in settings().items():
        value = config
        for name in key.split("."):
            value = getattr(value, name)
        if wrong := setting.wrong(value):
            raise UserError(f"{source}{key}: {wrong}. {setting.help}")
    _check_name(config.name)
    _check_degradation(config.degradation)
    return config


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[\w.-]*", name) or name.startswith("."):
        raise UserError(f"name: expected letters, digits, - _ ., got {name!r}; a folder goes to out=")


def _check_degradation(text: str) -> None:
    """Whether `degradation` is JSON of the right shape; whether it is of the world, its reader says."""
    if not text:
        return
    reason = ""
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as error:
        parsed, reason = None, f" ({error})"
    right = isinstance(parsed, dict) and set(parsed) == {"type", "values"} and isinstance(parsed["values"], dict)
    if not right:
        example = '{"type": "blur", "values": {"sigma": 2.0}}'
        raise UserError(f"degradation: expected JSON such as {example}, got {text[:80]!r}{reason}")
