"""Runs jobs as people run them, and reads what they leave."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def duvlm(*arguments: str) -> None:
    """`duvlm run` with these words, to its end."""
    command = [sys.executable, "duvlm.py", "run", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]


def rows(folder: Path) -> list[dict]:
    """The steps that a job has logged in its folder."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
