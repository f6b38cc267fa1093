"""Pictures out of the object store."""

from __future__ import annotations

import asyncio

import ray

from envs.types import RewardQuery, Sample
from reward_actors.pool.memo import Memo

SAMPLES_KEPT = 256


class SampleError(RuntimeError):
    """A sample is on its way for too long."""


class Samples:
    """Fetches each sample once; a few are kept, since a group shares one."""

    def __init__(self, seconds: float):
        """seconds: how long one may be on its way."""
        self._seconds, self._kept = seconds, Memo(SAMPLES_KEPT)

    async def of(self, query: RewardQuery) -> Sample:
        """Raises SampleError where it does not come."""
        if not isinstance(query.sample, ray.ObjectRef):
            return query.sample
        known = (query.sample_id, query.content)
        if (sample := self._kept.get(known)) is None:
            try:
                sample = await asyncio.wait_for(query.sample, self._seconds)
            except TimeoutError:
                waited = f"no sample in {self._seconds:g} s"
                raise SampleError(f"{query.sample_id}: {waited} from the object store") from None
            self._kept.put(known, sample)
        return sample
