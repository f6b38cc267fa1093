"""report.html of an RL job: where its time went. One file, no outside resources, from metrics.jsonl and trace.json.

`python -m benchmarks.throughput.page RUN_FOLDER` writes it; `duvlm run offline` and `online` do so when they end.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.quality.report.html import Section, document, figure, paragraph, table
from benchmarks.quality.report.style import BLUE, GREEN, GREY, PURPLE, RED, grid, styled, svg
from benchmarks.quality.report.table import Table
from configs.run_folders import read_metrics, write_atomically
from learner.logging import trace

ROLES = {"rollout": BLUE, "reward": RED, "learner": GREEN}
IDLE = {"starved": "#cccccc", "blocked": "#888888", "restarting": PURPLE}
SHOWN_STEPS = 3  # of the timeline: more would be too dense to read


def write_page(run_folder: Path) -> Path:
    """Writes RUN_FOLDER/report.html."""
    file = Path(run_folder) / "report.html"
    write_atomically(file, throughput_page(run_folder))
    return file


def throughput_page(run_folder: Path) -> str:
    """The page as HTML; a run that has no step yet gets a page that says so."""
    folder = Path(run_folder)
    steps = [step for step in read_metrics(folder / "metrics.jsonl") if "busy_share" in step]
    title = f"{'/'.join(folder.resolve().parts[-2:])}: throughput"
    if not steps:
        return document(title, [], "<p>No step was finished yet.</p>")
    shares = paragraph("Starved: no work had come. Blocked: those after it had not caught up.")
    shares += figure(_shares(totals(steps)), "share of each role's time by what it did", "metrics.jsonl")
    sections = [
        Section("rates", "What was done a second", table(Table.of("", rates(steps)))),
        Section("roles", "Who worked, and who waited for what", shares),
        Section("steps", "Step by step", figure(_curves(steps), "times, queue and rates by step", "metrics.jsonl")),
    ]
    if (folder / "trace.json").exists() and (spans := _last_spans(trace.read_spans(folder / "trace.json"))):
        timeline = figure(_timeline(spans), "spans of the last steps by role", "trace.json, for ui.perfetto.dev")
        sections.append(Section("timeline", "The last steps", timeline))
    wall = sum(step["step_seconds"] for step in steps)
    lead = f"{len(steps)} steps in {wall:.0f} s, {wall / len(steps):.2f} s a step."
    return document(title, sections, paragraph(lead))


def rates(steps: Sequence[dict]) -> list[list[str]]:
    """Work a second over all steps, as rows of a table."""
    wall = sum(step["step_seconds"] for step in steps)
    done = {
        "completions": sum(step["completions"] for step in steps),
        "tokens": sum(step["tokens_per_second"] * step["step_seconds"] for step in steps),
        "queries asked": sum(step["rewards"]["asked"] for step in steps),
        "restorations": sum(step["rewards"]["restored"] for step in steps),
        "denoiser image-steps": sum(step["rewards"]["image_steps"] for step in steps),
    }
    return [["", "in all", "a second"], *([name, f"{n:.0f}", f"{n / wall:.3g}"] for name, n in done.items())]


def totals(steps: Sequence[dict]) -> dict[str, dict[str, float]]:
    """Shares of each role's time over all steps: busy, starved, blocked, restarting; they add up to 1."""
    result = {}
    for role in ROLES:
        seconds = {"busy": sum(step["busy"][role] for step in steps)}
        seconds |= {why: sum(step["idle"][role][why] for step in steps) for why in IDLE}
        whole = sum(seconds.values()) or 1.0
        result[role] = {name: value / whole for name, value in seconds.items()}
    return result


@styled()
def _shares(shares: dict[str, dict[str, float]]) -> str:
    drawing, (axis,) = grid(1, 1, 9, 1.9)
    for row, (role, parts) in enumerate(shares.items()):
        left = 0.0
        for name, share in parts.items():
            colour = ROLES[role] if name == "busy" else IDLE[name]
            axis.barh(row, share, left=left, color=colour, height=0.7)
            if share > 0.09:  # else the word does not fit
                light = name in ("busy", "blocked")
                axis.text(left + share / 2, row, f"{name} {share:.0%}", ha="center", va="center",
                          color="white" if light else "#222")  # fmt: skip
            left += share
    axis.set(yticks=range(len(shares)), yticklabels=list(shares), xlim=(0, 1), xticks=[])
    axis.invert_yaxis()
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    return svg(drawing)


@styled()
def _curves(steps: Sequence[dict]) -> str:
    number = [step["step"] for step in steps]
    drawing, axes = grid(4, 2, 4.5, 2.3)
    times, shares, queue, done = axes
    times.set_title("seconds: the step, and each role's work (all its actors)")
    times.plot(number, [step["step_seconds"] for step in steps], color=GREY, label="step")
    shares.set_title("busy share of each role")
    for role, colour in ROLES.items():
        times.plot(number, [step["busy"][role] for step in steps], color=colour, label=role)
        shares.plot(number, [step["busy_share"][role] for step in steps], color=colour, label=role)
    queue.set_title("queries that wait at the end of a step; age of the oldest, s")
    queue.plot(number, [step["rewards"]["queued"] for step in steps], color=RED, label="waiting")
    queue.plot(number, [step["rewards"]["queue_age"] for step in steps], color=GREY, label="age, s")
    done.set_title("a second")
    for name, colour in (("asked", GREY), ("restored", RED)):
        each = [step["rewards"][name] / step["step_seconds"] for step in steps]
        done.plot(number, each, color=colour, label=f"rewards {name}")
    for axis in axes:
        axis.set_xlabel("step")
        axis.xaxis.get_major_locator().set_params(integer=True)
        highest = max(max(drawn.get_ydata()) for drawn in axis.lines)
        axis.set_ylim(0, 1.25 * (highest or 1))  # room for the legend
        axis.legend(fontsize=8, ncols=4, loc="upper right")
        if len(number) == 1:
            for drawn in axis.lines:
                drawn.set_marker("o")
    return svg(drawing)


def _last_spans(spans: Sequence[trace.Span]) -> list[trace.Span]:
    """Spans that end within the last few learner steps."""
    learning = sorted(span.start for span in spans if span.process == "learner" and span.name.startswith("step"))
    if not learning:
        return []
    since = learning[max(0, len(learning) - SHOWN_STEPS - 1)]
    return [span for span in spans if span.end > since]


@styled()
def _timeline(spans: Sequence[trace.Span]) -> str:
    began = min(span.start for span in spans)
    order = {role: place for place, role in enumerate(ROLES)}
    threads = sorted({(order.get(span.process, 9), span.process, span.thread) for span in spans})
    rows: list[tuple[str, float]] = []  # role, and when the last bar of the row ends
    middles: dict[str, list[int]] = {}
    bars = []
    for _, role, thread in threads:
        first = len(rows)
        for span in sorted((s for s in spans if (s.process, s.thread) == (role, thread)), key=lambda s: s.start):
            free = (row for row in range(first, len(rows)) if rows[row][1] <= span.start + 1e-6)
            row = next(free, len(rows))  # bars that overlap lie one above the other
            rows[row : row + 1] = [(role, span.end)]
            bars.append((row, span))
        middles.setdefault(role, []).extend(range(first, len(rows)))
    drawing, (axis,) = grid(1, 1, 9, 0.6 + 0.16 * max(6, len(rows)))
    for row, span in bars:
        bar = axis.barh(row, span.seconds, left=span.start - began, height=0.8)
        bar[0].set(color=ROLES.get(span.process, GREY), edgecolor="white", linewidth=0.4)
    middles = {role: np.mean(taken) for role, taken in middles.items() if role in ROLES}
    axis.set(yticks=list(middles.values()), yticklabels=list(middles), xlabel="seconds")
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    return svg(drawing)


if __name__ == "__main__":
    print(write_page(Path(sys.argv[1])))
