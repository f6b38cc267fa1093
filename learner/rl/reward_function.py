"""Rewards by restoration for trainers that call a function: `RewardFunction`, in the form of TRL's `reward_funcs`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import ray
from anyio.from_thread import BlockingPortal, start_blocking_portal

from configs import UserError, run_folder
from configs.cluster.connect import cluster
from configs.hub import model_folder
from configs.schema import Config
from envs.types import Failed, Gated, Prompt, Scored
from learner.rl.environment import open_environment
from reward_actors.pool.shared.client import open_pool
from reward_actors.pool.stats import PoolStats


class RewardFunction:
    """Rewards the completions that a trainer brings, by a pool of reward actors that works while the block lasts.

    with RewardFunction(load("offline", ["corpus=FOLDER"])) as rewards:
        GRPOTrainer(model, rewards, ...).train()

    All completions of a call are judged at once, so the restorations of a whole step share actors and batches. The
    pool has a thread of its own: the caller may be a script, a notebook or a trainer with an event loop.

    Attributes:
        samples: what the rewards are about, in the order of the corpus.
    """

    __name__ = "restoration"  # what TRL calls the reward in its logs

    def __init__(self, config: Config, job: str = "offline"):
        """
        Args:
            config: settings of the job `offline` or `online`: `corpus` or `photos`, and all of `reward`.
            job: `offline` judges by the truth of a corpus; `online` needs none, and takes photographs too.

        Raises:
            UserError: a corpus or folder is missing or of another world, or `mix` is set.
        """
        if config.mix:
            raise UserError("mix: a reward function has one source of samples; set mix=0")
        model_folder(config.reward.prior, "reward.prior")  # fetched before the actors start, which ask no hub
        environment = open_environment(config, job, run_folder(config, job))
        self.samples = environment.samples
        self._rows = {name: row for row, name in enumerate(self.samples.sample_ids())}
        self._pool = open_pool(config, environment.rules)
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> RewardFunction:
        """Starts the actors, on a local Ray cluster where this process is connected to none.

        Raises:
            UserError: there is no such prior, or the cluster cannot hold the actors.
        """
        with ExitStack() as stack:
            stack.enter_context(cluster())
            self._portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(self._portal.wrap_async_context_manager(self._pool))
            self._end = stack.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._portal = None
        self._end.close()

    def __call__(
        self, prompts: Sequence, completions: Sequence, sample_id: Sequence[str] = (), **_
    ) -> list[float | None]:
        """Rewards completions, in their order, as TRL asks for it.

        Args:
            completions: texts, or conversations of which the last message is the answer.
            sample_id: a column of the trainer's data set: the sample that each completion is about.

        Returns:
            For each its reward, -1 where the gate turned it away; None where no restoration could be had: TRL leaves
            such completions out of their groups.

        Raises:
            UserError: outside the `with` block, or a `sample_id` is missing or none of the samples.
        """
        if len(sample_id) != len(completions):
            raise UserError(
                f"RewardFunction: expected a sample_id for each of {len(completions)} completions, got "
                f"{len(sample_id)}; give the trainer's data set a column `sample_id`"
            )
        if strange := set(sample_id) - self._rows.keys():
            raise UserError(f"sample_id: expected one of the {len(self._rows)} samples, got {min(strange)!r}")
        return self._call(self._judge, sample_id, [text_of(completion) for completion in completions])

    def stats(self) -> PoolStats:
        """Takes a snapshot of the pool: what it was asked, what it answered without a restoration."""
        return self._call(self._pool.stats)

    def _call(self, work: Callable, *arguments):
        if self._portal is None:
            raise UserError("RewardFunction: expected to be used inside its `with` block, which starts the actors")
        return self._portal.call(work, *arguments)

    async def _judge(self, sample_id: Sequence[str], texts: Sequence[str]) -> list[float | None]:
        """Judges each sample's completions as one group, all groups at a time; a sample travels once."""
        groups: dict[str, list[int]] = {}
        for place, name in enumerate(sample_id):
            groups.setdefault(name, []).append(place)
        judged = await asyncio.gather(
            *(
                self._pool.judge(Prompt(name, ray.put(self.samples[self._rows[name]])), [texts[i] for i in places])
                for name, places in groups.items()
            )
        )
        rewards: list[float | None] = [None] * len(texts)
        for places, verdicts in zip(groups.values(), judged, strict=True):
            for place, verdict in zip(places, verdicts, strict=True):
                rewards[place] = _number(verdict)
        return rewards


def text_of(completion: str | Sequence[dict]) -> str:
    """Returns the text of an answer; content is a text itself, or parts of which some are texts."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _number(verdict: Scored | Gated | Failed) -> float | None:
    return None if isinstance(verdict, Failed) else verdict.reward
