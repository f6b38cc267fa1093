"""Spans of time in the format that Perfetto and chrome://tracing open: who was busy when."""

from __future__ import annotations

import json
from pathlib import Path


class Trace:
    """A trace file that grows by one line a span, so that a killed run leaves all but its last line.

    A file that exists is continued. Times are seconds since the epoch, `time.time()` of any process.
    """

    def __init__(self, file: Path):
        self._ids: dict[tuple[str, ...], int] = {}
        self._lanes: dict[tuple[str, str], list[float]] = {}  # when the last span of each lane ended
        kept = [event for event in read(file) if event["ph"] == "X"] if file.exists() else []
        self._stream = file.open("w")
        self._stream.write("[\n")
        self._first = True
        for event in kept:
            who = event["args"]["who"]
            self.span(who[0], who[1], event["name"], event["ts"] / 1e6, event["dur"] / 1e6)

    def span(self, process: str, thread: str, name: str, start: float, seconds: float) -> None:
        """`thread` of `process` (a role and one actor of it) did `name` from `start` for `seconds`.

        Spans that overlap on one thread are drawn on lanes of it: the format nests spans, it cannot overlap them.
        """
        lane = self._lane(process, thread, start, start + seconds)
        title = f"{thread} ({lane + 1})" if lane else thread
        pid = self._id((process,), {"name": "process_name", "args": {"name": process}})
        tid = self._id((process, title), {"name": "thread_name", "pid": pid, "args": {"name": title}})
        event = {"name": name, "ph": "X", "pid": pid, "tid": tid, "args": {"who": [process, thread]}}
        self._write({**event, "ts": round(start * 1e6), "dur": max(0, round(seconds * 1e6))})

    def close(self) -> None:
        self._stream.write("\n]\n")
        self._stream.close()

    def _lane(self, process: str, thread: str, start: float, end: float) -> int:
        """The first lane that is free from `start` on. Spans come in the order of their ends."""
        lanes = self._lanes.setdefault((process, thread), [])
        lane = next((index for index, free in enumerate(lanes) if free <= start + 1e-6), len(lanes))
        lanes[lane:] = [end, *lanes[lane + 1 :]]
        return lane

    def _id(self, who: tuple[str, ...], introduction: dict) -> int:
        if who not in self._ids:
            self._ids[who] = len(self._ids) + 1
            self._write({"ph": "M", "pid": self._ids[who], "tid": self._ids[who], **introduction})
        return self._ids[who]

    def _write(self, event: dict) -> None:
        self._stream.write(("" if self._first else ",\n") + json.dumps(event))
        self._stream.flush()
        self._first = False


def read(file: Path) -> list[dict]:
    """The events of a trace, of an unfinished one too."""
    events = []
    for line in file.read_text().splitlines():
        line = line.strip().rstrip(",")
        if line.startswith("{") and line.endswith("}"):
            events.append(json.loads(line))
    return events
