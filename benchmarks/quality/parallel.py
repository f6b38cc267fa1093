"""Many restorations, by Ray tasks: equal tasks of a sample are done once."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence

from rich.progress import Progress

from benchmarks.quality.restorations import Quality, Task, restore_here
from configs import UserError
from configs.schema import Config, Reward
from envs.types import Sample

CHUNK = 16


def restore_all(
    config: Config, samples: Sequence[Sample], columns: Mapping[str, Sequence[Task]]
) -> dict[str, list[Quality]]:
    """Restores every sample under each column's task, by Ray tasks: {column: [a Quality a sample]}."""
    wanted = list(dict.fromkeys((i, task) for column in columns.values() for i, task in enumerate(column)))
    found = restore_pairs(config, samples, wanted)
    return {name: [found[pair] for pair in enumerate(column)] for name, column in columns.items()}


def restore_pairs(
    config: Config, samples: Sequence[Sample], wanted: Sequence[tuple[int, Task]]
) -> dict[tuple[int, Task], Quality]:
    """The same for (index of a sample, task) pairs."""
    ordered, found = sorted(wanted, key=lambda pair: pair[0]), {}
    with Progress(transient=True, disable=not sys.stdout.isatty()) as progress:
        bar = progress.add_task("restorations", total=len(ordered))
        for pairs, qualities in _in_parallel(config.reward, samples, ordered):
            found |= zip(pairs, qualities, strict=True)
            progress.advance(bar, len(pairs))
    return found


def _in_parallel(reward: Reward, samples: Sequence[Sample], wanted: Sequence[tuple[int, Task]]) -> Iterator[tuple]:
    import ray

    @ray.remote(num_cpus=1)
    def restore(chosen: list[Sample], tasks: list[Task]) -> list[Quality]:
        import torch

        torch.set_num_threads(1)
        return restore_here(reward, chosen, tasks)

    waiting, chunks = {}, [wanted[i : i + CHUNK] for i in range(0, len(wanted), CHUNK)]
    limit = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    while waiting or chunks:
        while chunks and len(waiting) < limit:
            pairs = chunks.pop()
            reference = restore.remote([samples[i] for i, _ in pairs], [task for _, task in pairs])
            waiting[reference] = pairs
        (done, *_), _ = ray.wait(list(waiting))
        yield waiting.pop(done), _result(done)


def _result(reference) -> list[Quality]:
    """Raises what the task raised, without its traceback where that is the user's to read."""
    import ray

    try:
        return ray.get(reference)
    except UserError as error:
        raise UserError(str(error.args[0])) from None
