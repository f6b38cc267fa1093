"""One undisturbed run, that every disturbed one is compared with, and the table of what came of the faults."""

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from broken_job import ROOT, Job, Outcome

STEPS = 48


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """21 training samples of 128 px: an epoch ends within a run."""
    folder = tmp_path_factory.mktemp("chaos") / "corpus"
    command = [sys.executable, "duvlm.py", "run", "corpus", "world=paper", "count=24", f"out={folder}"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr[-3000:]
    return folder


@pytest.fixture(scope="session")
def whole(corpus, tmp_path_factory) -> list[dict]:
    """The steps of a run that nothing happened to."""
    job = Job("offline", corpus, tmp_path_factory.mktemp("whole") / "run", f"steps={STEPS}")
    assert job.finish(900) == 0, job.said()
    return job.rows()


def table(known: dict[str, dict]) -> str:
    lines = ["| fault | noticed after | recovered after | lost | repeated | changed | date |", f"|{'---|' * 7}"]
    for fault, row in known.items():
        seconds = " | ".join(f"{row[name]:.0f} s" for name in ("noticed", "recovered"))
        lines.append(f"| {fault} | {seconds} | {row['lost']} | {row['repeated']} | {row['changed']} | {row['date']} |")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def record():
    """Puts an outcome into build/failures.json, in the place of what was there of the same fault; build/failures.md is
    the same as a table, for docs/failures.md."""
    file = ROOT / "build" / "failures.json"

    def put(outcome: Outcome) -> None:
        file.parent.mkdir(exist_ok=True)
        known = json.loads(file.read_text()) if file.exists() else {}
        known[outcome.fault] = {"date": time.strftime("%F"), **asdict(outcome)}
        file.write_text(json.dumps(known, indent=1) + "\n")
        file.with_suffix(".md").write_text(table(known))

    return put
