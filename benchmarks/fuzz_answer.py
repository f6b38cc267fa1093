"""Fuzzing of everything that reads what a model wrote: `envs.language.answer.parse`, `envs.metrics.read_text` and
`read_object`, and the JSON in free text of `envs.language.reading.read_free_text`.

    python -m benchmarks.fuzz_answer --strings 1000000         random, mutated and adversarial strings
    python -m benchmarks.fuzz_answer --coverage SECONDS        guided by coverage (needs `pip install atheris`)

Every reader must return what it promises, whatever the text, in bounded time and memory; the first text that it
fails on is printed and the status is 1.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fuzz_strings import SCRAPS, WORLDS, objects, strings
from envs.language.answer import MAX_CHARACTERS, REASONS, Answer, Invalid, answer_tokens, parse, write
from envs.language.reading import Reading, read_free_text, read_object, read_text
from envs.taxonomy import Key, Taxonomy

SECONDS_PER_CHARACTER, SECONDS = 5e-6, 0.1
"""A text of n characters may take SECONDS + n * SECONDS_PER_CHARACTER of the processor: some ten times what a slow
one takes, but far less than work that grows with the square of the length."""
BYTES_PER_CHARACTER, BYTES = 400, 200_000
MEMORY_EVERY = 500
"""Texts between those whose peak memory is measured, which is slow."""


@dataclass
class Report:
    """What a run saw. slowest: (seconds of the processor, characters). peak: bytes. seconds: of the clock."""

    strings: int = 0
    outcomes: Counter = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, 0)
    peak: int = 0
    seconds: float = 0.0


def check(text: object, world: Taxonomy) -> str:
    """What the readers make of a text. Raises AssertionError, or whatever a reader raised."""
    found = parse(text, world)
    assert isinstance(found, (Answer, Invalid)), found
    if isinstance(found, Answer):
        assert parse(write(found.degradation, world), world).degradation == found.degradation
    else:
        assert found.reason in REASONS, found.reason
        assert len(found.detail) < 1000, len(found.detail)
    for reading in (read_text(text, world), read_free_text(text, world)):
        _check_reading(reading, world)
    return "answer" if isinstance(found, Answer) else found.reason


def check_object(thing: object, world: Taxonomy) -> None:
    """The same of an object."""
    _check_reading(read_object(thing, world), world)


def run(seed: int, count: int) -> Report:
    """Reads `count` texts, and a tenth as many objects. Raises AssertionError with the text if a reader breaks its
    promise."""
    report, began = Report(), time.perf_counter()
    for number, (text, world) in enumerate(strings(seed, count)):
        try:
            seconds, outcome = _timed(text, world)
            if seconds > allowed(text):  # once more: garbage of earlier texts may have been collected meanwhile
                seconds, outcome = _timed(text, world)
            assert seconds <= allowed(text), f"{seconds:.3f} s for {len(text)} characters"
            if number % MEMORY_EVERY == 0:
                report.peak = max(report.peak, _memory(text, world))
            if text.lstrip().startswith("{"):
                _check_decoded(text, world)
        except Exception as error:
            raise AssertionError(f"text {number} of seed {seed}, {text[:300]!r}: {error!r}") from error
        report.outcomes[outcome] += 1
        report.slowest = max(report.slowest, (seconds, len(text)))
    for number, (thing, world) in enumerate(objects(seed, count // 10)):
        try:
            check_object(thing, world)
        except Exception as error:
            raise AssertionError(f"object {number} of seed {seed}: {error!r}") from error
    report.strings, report.seconds = count, time.perf_counter() - began
    return report


def allowed(text: str) -> float:
    """Seconds that a text may take."""
    return SECONDS + len(text) * SECONDS_PER_CHARACTER


def fuzz(seconds: int) -> int:
    """Fuzzes under coverage guidance with atheris, from a few hundred texts and the answer tokens as a dictionary.
    The exit status: 0 if nothing was found; a text that broke a reader is left in ./fuzz-crash-*."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, (text, _) in enumerate(strings(0, 400)):
            (corpus / str(number)).write_bytes(text.encode("utf-8", errors="surrogatepass"))
        words = [*SCRAPS, *answer_tokens(WORLDS[0])[::40]]
        lines = ['"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"' for word in words]
        Path(folder, "words").write_text("\n".join(lines))
        child = multiprocessing.Process(target=_fuzz_here, args=(folder, seconds))  # libFuzzer ends its process
        child.start()
        child.join()
    return child.exitcode


def _fuzz_here(folder: str, seconds: int) -> None:
    import atheris

    def one(data: bytes) -> None:
        text = data.decode("utf-8", errors="surrogateescape")
        world = WORLDS[len(data) % len(WORLDS)]
        check(text, world)
        _check_decoded(text, world)

    atheris.instrument_all()
    limits = [f"-max_total_time={seconds}", f"-max_len={MAX_CHARACTERS + 100}", "-timeout=5", "-rss_limit_mb=2048"]
    places = [f"-dict={folder}/words", "-artifact_prefix=fuzz-", f"{folder}/corpus"]
    atheris.Setup([sys.argv[0], *limits, *places], one)
    atheris.Fuzz()


def _timed(text: str, world: Taxonomy) -> tuple[float, str]:
    began = time.process_time()  # not of the clock: others may have the core
    outcome = check(text, world)
    return time.process_time() - began, outcome


def _memory(text: str, world: Taxonomy) -> int:
    tracemalloc.start()
    check(text, world)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= BYTES + BYTES_PER_CHARACTER * len(text), f"{peak} bytes for {len(text)} characters"
    return peak


def _check_decoded(text: str, world: Taxonomy) -> None:
    try:
        thing = json.loads(text)
    except (ValueError, RecursionError):
        return
    check_object(thing, world)


def _check_reading(reading: Reading, world: Taxonomy) -> None:
    assert isinstance(reading, Reading), reading
    assert reading.type is None or reading.type in world, reading
    assert bool(reading.reason) == (reading.degradation is None), reading
    if reading.degradation:
        assert reading.type == reading.degradation.type
        for name, value in reading.degradation.values:
            assert all(_on_grid(world.keys[name], number) for number in _flat(value)), (name, value)


def _on_grid(key: Key, number: float) -> bool:
    return math.isfinite(number) and key.low - 1e-9 <= number <= key.high + 1e-9 and key.snap(number) == number


def _flat(value) -> Iterator[float]:
    if isinstance(value, tuple):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("benchmarks.fuzz_answer", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--strings", type=int, default=20_000, help="how many (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--coverage", type=int, metavar="SECONDS", default=0, help="fuzz with atheris for so long")
    options = parser.parse_args(arguments)
    if options.coverage:
        return fuzz(options.coverage)
    try:
        report = run(options.seed, options.strings)
    except AssertionError as error:
        print(error, file=sys.stderr)
        return 1
    seconds, characters = report.slowest
    print(f"{report.strings} strings in {report.seconds:.0f} s, {report.strings / report.seconds:.0f} a second")
    print(f"slowest {seconds * 1000:.1f} ms for {characters} characters; peak memory of one {report.peak / 1e6:.2f} MB")
    print(", ".join(f"{name} {count}" for name, count in report.outcomes.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
