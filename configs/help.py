"""Writes the settings and jobs as text: for `duvlm --help`, docs/configuration.md and the completion of a shell."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from configs.jobs import jobs
from configs.load import tracks
from configs.schema import WORLDS
from configs.settings import Setting, settings

EXAMPLES: dict[str, str] = yaml.safe_load(Path(__file__).with_name("examples.yaml").read_text())
"""Commands of each command of `duvlm`; those of `duvlm` itself by that name."""


def examples(command: str = "duvlm") -> str:
    """Writes the examples of a command as its help shows them."""
    return "examples:\n" + textwrap.indent(EXAMPLES[command], "  ").rstrip()


def for_terminal(listed: Iterable[Setting]) -> str:
    """Writes two lines a setting."""
    lines = (f"  {each.key}={_written(each.default)}  ({_allowed(each)})\n      {each.help}" for each in listed)
    return "\n".join(lines)


def for_run(arguments: Iterable[str]) -> str:
    """Writes the jobs and the settings; where `arguments` name one job, the settings that this job reads."""
    job = next((jobs()[word] for word in arguments if word in jobs()), None)
    listed = f"settings that {job.name} reads" if job else "settings"
    names = "\n".join(f"  {each.name:10}{each.help}" for each in runnable())
    text = for_terminal(job.settings() if job else settings().values())
    presets = f"track={' or track='.join(tracks())}, and world={' or world='.join(WORLDS)}"
    return f"\n\njobs:\n{names}\n\n{listed} (and {presets}):\n{text}"


def for_docs() -> str:
    """Writes the tables of docs/configuration.md: every setting, then which of them each job reads."""
    rows = [
        f"| `{each.key}` | {f'`{text}`' if (text := _written(each.default)) else ''} | {_allowed(each)} | {each.help} |"
        for each in settings().values()
    ]
    table = ["| setting | default | allowed | what it is |", "|---|---|---|---|", *rows]
    reads = [f"| `{job.name}` | {', '.join(f'`{name}`' for name in job.reads)} |" for job in jobs().values()]
    return "\n".join([*table, "", "| job | settings it reads |", "|---|---|", *reads]) + "\n"


def runnable() -> list:
    """Lists the jobs of `duvlm run`."""
    return [job for job in jobs().values() if not job.own_command]


def completions(prefix: str) -> list[str]:
    """Lists what `key=value` may become: keys and `track`, and after the `=` the words that the key allows."""
    key, equals, _ = prefix.partition("=")
    if not equals:
        return [f"{name}=" for name in ["track", "world", *settings()]]
    if key in (presets := {"track": tracks(), "world": WORLDS}):
        return [f"{key}={name}" for name in presets[key]]
    if key not in settings():
        return []
    words = ("true", "false") if settings()[key].kind is bool else settings()[key].choices
    return [f"{key}={word}" for word in words]


def _allowed(setting: Setting) -> str:
    if setting.low is not None:
        return f"{setting.low} .. {setting.high}"
    return ", ".join(setting.choices) or {str: "text", bool: "true, false"}.get(setting.kind, "")


def _written(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return f"[{','.join(map(str, default))}]" if isinstance(default, list) else str(default)


if __name__ == "__main__":
    page = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
    page.write_text(page.read_text().partition("| setting |")[0] + for_docs())
