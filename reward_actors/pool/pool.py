"""The pool of reward actors: nothing asked twice, nothing lost when one dies, as many as the load needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from configs import UserError
from configs.schema import Config
from envs.types import Failed, RewardQuery, Scored
from reward_actors.pool.autoscaler import Autoscaler
from reward_actors.pool.autoscaling_policy import Limits
from reward_actors.pool.dispatcher import Crew
from reward_actors.pool.memo import Memo
from reward_actors.pool.queue import Item
from reward_actors.pool.shared.account import Account
from reward_actors.pool.stats import IDLE, Counts, PoolStats
from reward_actors.pool.worker import RewardActor

MEMO = 20_000
"""Scores remembered, at most."""
GONE = "its client is gone"


class RewardPool:
    """Scores queries on reward actors. Lives in one asyncio loop of the driver; Ray must be initialised."""

    def __init__(self, config: Config, actor_class: type = RewardActor, memo: int = MEMO):
        """actor_class: what the actors are, for measuring the pool without restorations. memo: scores remembered."""
        self._settings = config.reward
        self._memo = Memo(memo)
        self._crew = Crew(actor_class, config.reward, config.world.size)
        self._roster = self._crew.roster
        self._pending: dict[tuple, Item] = {}
        self._accounts: dict[str, Account] = {}
        self._left = Counts()  # of clients that are gone
        self._autoscaler = Autoscaler(self._roster, self.stats)
        self._closed = False

    async def start(self) -> None:
        """Creates the actors and waits until each has loaded its prior; autoscales if `reward.max_actors` says so.

        Raises:
            UserError: the prior cannot be loaded, or the cluster cannot hold the actors.
        """
        fewest, most = self._settings.actors, self._settings.max_actors
        if most and most < fewest:
            raise UserError(f"reward.max_actors={most}: expected 0 or at least reward.actors={fewest}")
        await self._roster.resize(fewest)
        if most:
            self.autoscale(fewest, most)

    async def score(self, queries: Sequence[RewardQuery], priority: int = 0, client: str = "") -> list[Scored | Failed]:
        """Scores queries, in their order; equal (sample_id, degradation, content) are asked once.

        Args:
            priority: lower goes first; the number of the step or group makes the oldest go first.
            client: who asks; clients take turns (`FairQueue`). After `leave` what it waits for comes back `Failed`.

        Raises:
            UserError: the configured scorer cannot judge these samples, or no actor is left.
        """
        account = self.account(client)
        futures = [await self._ask(query, priority, account) for query in queries]
        answers = await asyncio.gather(*map(asyncio.shield, futures), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers

    async def resize(self, actors: int) -> None:
        """Sets the number of actors while they work, and ends autoscaling.

        Actors that go finish what they hold, nothing is lost. Returns when those that come are ready.

        Raises:
            UserError: the cluster cannot hold them, or their prior cannot be loaded; those that came stay.
        """
        if actors < 1:
            raise ValueError(f"a pool needs at least one actor, not {actors}")
        await self._autoscaler.stop()
        await self._roster.resize(actors)

    def autoscale(self, fewest: int, most: int, patience: float = 5.0, calm: float = 30.0) -> None:
        """From now on the pool has between `fewest` and `most` actors, as the load needs.

        patience, calm: seconds, see `autoscale.Limits`. What it does is in `stats().scalings`.
        """
        if not 1 <= fewest <= most:
            raise ValueError(f"autoscaling needs 1 <= fewest <= most, not {fewest} and {most}")
        self._autoscaler.start(Limits(fewest, most, patience=patience, calm=calm))

    def stats(self) -> PoolStats:
        """A snapshot; cheap, asks nobody."""
        roster, queue, reports = self._roster, self._crew.queue, self._roster.reports()
        total = sum((report for report, _ in reports.values()), IDLE)
        clients = {account.client: account.counts for account in self._accounts.values()}
        return PoolStats(
            **vars(sum(clients.values(), self._left)),
            restarts=roster.restarts,
            restarting=roster.restart_seconds,
            actors=sum(slot.live and not slot.draining for slot in roster.slots),
            queued=len(queue),
            in_flight=sum(len(slot.in_flight) for slot in roster.slots),
            queue_age=queue.age(),
            occupied=sum(occupied for _, occupied in reports.values()),
            image_steps=total.image_steps,
            denoiser_seconds=total.denoiser,
            busy={name: report.busy for name, (report, _) in reports.items()},
            scalings=tuple(self._autoscaler.scalings),
            clients=clients,
            waiting=dict(queue.by_client()),
        )

    def processes(self) -> dict[str, int]:
        """Process id of each live actor, by name."""
        return {slot.name: slot.pid for slot in self._roster.slots if slot.live}

    async def close(self) -> None:
        """Ends all actors. Queries still under way come back `Failed`."""
        self._closed = True
        await self._autoscaler.stop()
        await self._crew.close()
        for item in list(self._pending.values()):
            item.answer(Failed("the reward pool was closed"))

    @property
    def fingerprint(self) -> str:
        """Changes with anything that changes a score, weights included; empty before the first actor is ready."""
        return self._roster.fingerprint

    def account(self, client: str) -> Account:
        """Of one client, from its first query until it leaves."""
        if (account := self._accounts.get(client)) is None:
            account = self._accounts[client] = Account(client)
        return account

    def leave(self, client: str) -> None:
        """Nobody waits any more for what `client` has asked: it leaves the queue, unless another asks the same.

        What an actor holds of it is finished there, for nobody. If the client asks again, it is a new one.
        """
        account = self.account(client)
        account.gone, self._left = True, self._left + account.counts
        del self._accounts[client]
        queued = self._crew.queue.remove(client)
        for item in list(self._pending.values()):
            item.others.pop(client, None)
            if item.client == client and not item.pass_on():
                del self._pending[item.query.key]
                item.answer(Failed(GONE))
        for item in queued:
            if not item.result.done():
                self._crew.put(item)

    # asking

    async def _ask(self, query: RewardQuery, priority: int, account: Account) -> asyncio.Future:
        """The answer to one query, to come: remembered, under way already, or new work."""
        if self._closed:
            raise RuntimeError("the reward pool is closed")
        account.count("asked")
        if (known := self._known(query, priority, account)) is not None:
            return known
        await account.room.acquire()
        if (known := self._known(query, priority, account)) is not None:  # asked by somebody else while we waited
            account.room.release()
            return known
        future = asyncio.get_running_loop().create_future()
        item = Item(query, future, priority, client=account.client)
        future.add_done_callback(lambda _: self._settle(item, account))
        self._pending[query.key] = item
        self._crew.put(item)
        return future

    def _known(self, query: RewardQuery, priority: int, account: Account) -> asyncio.Future | None:
        if account.gone:
            return _answered(Failed(GONE))
        if (item := self._pending.get(query.key)) is not None:
            account.count("shared")
            if item.client != account.client:
                item.others[account.client] = Item(query, item.result, priority, client=account.client)
            return item.result
        if (scored := self._memo.get((*query.key, self._roster.fingerprint))) is None:
            return None
        account.count("memo_hits")
        return _answered(replace(scored, cached=True))

    def _settle(self, item: Item, account: Account) -> None:
        """account: of the client that brought it, whose room it took; it may be another's by now."""
        account.room.release()
        if self._pending.get(item.query.key) is item:
            del self._pending[item.query.key]
        if item.result.exception() is not None:
            return
        answer = item.result.result()
        if (now := self._accounts.get(item.client)) is not None:
            now.count("scored" if isinstance(answer, Scored) else "failed")
        if isinstance(answer, Scored) and answer.picture is None:  # pictures are too large to keep
            self._memo.put((*item.query.key, item.fingerprint), answer)


def _answered(answer: Scored | Failed) -> asyncio.Future:
    future = asyncio.get_running_loop().create_future()
    future.set_result(answer)
    return future
