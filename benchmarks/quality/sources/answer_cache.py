"""Answers that were paid for are kept: JSON lines, one appended as each arrives, read back when asked again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Reply:
    """Holds one answer of an endpoint. request: hash of the whole request. refused: the model or a filter declined."""

    request: str
    sample_id: str
    text: str
    refused: bool = False
    finish: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0


class AnswerCache:
    """Keeps the replies in a file. A line cut off by a crash is dropped, and requested again."""

    def __init__(self, file: Path, fresh: bool = False):
        """fresh: forget what is there."""
        self._file, self._replies = file, {}
        if fresh:
            file.unlink(missing_ok=True)
        text = file.read_bytes() if file.is_file() else b""
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            file.write_bytes(whole)
        for line in whole.splitlines():
            reply = Reply(**json.loads(line))
            self._replies[reply.request] = reply

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, request: str) -> Reply | None:
        """Returns the reply to a request, None if there is none yet."""
        return self._replies.get(request)

    def add(self, reply: Reply) -> None:
        """Keeps a reply, on disk before it returns."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a") as lines:
            lines.write(json.dumps(asdict(reply)) + "\n")
        self._replies[reply.request] = reply
