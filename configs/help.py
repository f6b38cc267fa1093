"""Writes the settings and jobs as text: for `duvlm --help`, docs/configuration.md and the completion of a shell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from configs.jobs import jobs
from configs.load import tracks
from configs.schema import WORLDS, Setting, settings

EXAMPLES = {
    "": """examples:
  duvlm run corpus photos=DIR count=1000 out=DIR     a corpus from your photographs
  duvlm run offline name=first                       the RL job, on this machine
  duvlm resume runs/first/offline                    go on with it, as it was set
  duvlm submit offline --address http://HOST:8265    the same on a Ray cluster
  duvlm scale rewards 2:8                            while it runs, from another terminal
  duvlm run rewards name=shared --address auto       reward actors for several jobs: reward.pool=shared
  duvlm COMMAND --help                               more""",
    "run": """examples:
  duvlm run corpus photos=DIR count=1000 size=64 seed=1 out=DIR
  duvlm run corpus photos=DIR world=open out=DIR    with noise, JPEG, motion blur, and nothing wrong
  duvlm run sft name=first steps=100 policy=random
  duvlm run offline name=first policy=runs/first/sft/policy reward.actors=4
  duvlm run evaluate corpus=DIR policy=FILE.jsonl out=DIR
  duvlm run evaluate corpus=DIR endpoint=https://api.openai.com/v1 policy=gpt-4o out=DIR
  duvlm run compare scores=runs/a/evaluate,runs/b/evaluate corpus=DIR out=DIR
  duvlm run rewards name=shared reward.actors=4 reward.max_actors=8 --address auto
  duvlm run offline name=first reward.pool=shared --address auto
  duvlm run restore image=FILE degradation='{"type": "blur", "values": {"sigma": 2.0}}' out=DIR
  duvlm run offline track=qwen3vl_8b --dry-run
  duvlm run offline --address auto --dry-run      does it fit the cluster of this machine?""",
    "resume": """examples:
  duvlm resume runs/first/offline                  from its newest checkpoint
  duvlm resume runs/first/offline steps=200        further than it was to go
  duvlm resume runs/first/offline --address HOST:6379""",
    "submit": """examples:
  duvlm submit offline --address http://127.0.0.1:8265 name=first
  duvlm submit rewards --address http://127.0.0.1:8265 name=shared --no-follow
  RAY_AUTH_MODE=token duvlm submit sft --address http://HOST:8265 --no-follow""",
    "status": """examples:
  duvlm status                                    runs in ./runs, processes of this machine
  duvlm status --address http://127.0.0.1:8265    jobs of a cluster
  py-spy record --pid PID --duration 30 -o profile.svg    where a process of the list spends its time""",
    "logs": "examples:\n  duvlm logs raysubmit_ABC\n  duvlm logs raysubmit_ABC -f",
    "stop": "examples:\n  duvlm stop raysubmit_ABC",
    "scale": """examples:
  duvlm scale rewards 4                                           four
  duvlm scale rewards 2:8                                         as many as the load asks for
  duvlm scale rewards 8 --address HOST:6379 --run first/offline   of one job among several
  duvlm scale rewards 2:8 --address HOST:6379 --run shared/rewards  of a pool that jobs share""",
    "plan": """examples:
  duvlm plan gpus=8                                by the newest RL run in ./runs
  duvlm plan gpus=64 run=runs/first/offline""",
    "bench": "examples:\n  duvlm bench reward\n  duvlm bench quality corpus=DIR limit=40 --json figures.json",
    "serve": """examples:
  duvlm serve                                      http://127.0.0.1:8000/
  duvlm serve --port 9000 policy=runs/first/offline/policy reward.restorer=average
  curl --data-binary @photo.jpg http://127.0.0.1:8000/api/read
  curl --data-binary @photo.jpg http://127.0.0.1:8000/api/restore -o restored.png""",
    "completion": """examples:
  source <(duvlm completion bash)                                   in ~/.bashrc
  source <(duvlm completion zsh)                                    in ~/.zshrc
  duvlm completion fish > ~/.config/fish/completions/duvlm.fish""",
}


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
    from pathlib import Path

    page = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
    page.write_text(page.read_text().partition("| setting |")[0] + for_docs())
