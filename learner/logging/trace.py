"""Spans of time in the format that Perfetto and chrome://tracing open: who was busy when."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Span:
    """Says that `thread` of `process` (a role and one actor of it) did `name` from `start` on, for `seconds`.

    start: seconds since the epoch, `time.time()` of any process.
    """

    process: str
    thread: str
    name: str
    start: float
    seconds: float

    @property
    def end(self) -> float:
        """Seconds since the epoch."""
        return self.start + self.seconds


class Trace:
    """Writes a trace file that grows by two lines a span, so that a killed run leaves all but its last span.

    A file that exists is continued. A span is a pair of asynchronous events: those of one thread may overlap.
    """

    def __init__(self, file: Path):
        kept = read_spans(file) if file.exists() else []
        self._processes: dict[str, int] = {}
        self._count, self._separator = 0, ""
        self._stream = file.open("w")
        self._stream.write("[\n")
        for span in kept:
            self.span(span.process, span.thread, span.name, span.start, span.seconds)

    def span(self, process: str, thread: str, name: str, start: float, seconds: float) -> None:
        """Adds a `Span`, whose fields the arguments are."""
        if process not in self._processes:
            self._processes[process] = len(self._processes) + 1
            self._event(ph="M", name="process_name", pid=self._processes[process], args={"name": process})
        self._count += 1
        pair = {"name": name, "cat": thread, "id": self._count, "pid": self._processes[process]}
        began, length = round(start * 1e6), max(0, round(seconds * 1e6))
        self._event(ph="b", ts=began, args={"who": [process, thread], "dur": length}, **pair)
        self._event(ph="e", ts=began + length, **pair)
        self._stream.flush()

    def close(self) -> None:
        """Makes the file valid JSON."""
        self._stream.write("\n]\n")
        self._stream.close()

    def _event(self, **event) -> None:
        self._stream.write(self._separator + json.dumps({**event, "tid": event["pid"]}))
        self._separator = ",\n"


def read_spans(file: Path) -> list[Span]:
    """Reads the spans of a trace, of an unfinished one and of one that an earlier version wrote, too."""
    lines = (line.strip().rstrip(",") for line in file.read_text().splitlines())
    events = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    return [_span(event) for event in events if event["ph"] in ("b", "X")]


def _span(event: dict) -> Span:
    details = event["args"]
    process, thread = details["who"]
    seconds = event.get("dur", details.get("dur")) / 1e6
    return Span(process, thread, event["name"], event["ts"] / 1e6, seconds)
