"""Which actor is assigned what waits; no Ray."""

import asyncio
import itertools

import pytest

from envs.types import RewardQuery
from reward_actors.pool.dispatcher import assign, reserve
from reward_actors.pool.queue import PullQueue, QueuedQuery
from reward_actors.pool.replica import LoadIndex, Replica, ReplicaState


def holding(*counts, rows=4):
    """Replicas of one index with `rows` rows that hold so many queries."""
    loads, replicas = LoadIndex(), []
    for name, count in enumerate(counts):
        replica = Replica(str(name), loads)
        replica.rows, replica.in_flight, replica.state = rows, dict.fromkeys(range(count)), ReplicaState.READY
        replicas.append(replica)
    return replicas


def assigned(replicas, waiting):
    """How many of so many that wait each is assigned."""

    async def work():
        queue = PullQueue()
        for number in range(waiting):
            queue.push(QueuedQuery(RewardQuery(f"{number}", None), asyncio.get_running_loop().create_future()))
        return assign(replicas[0]._loads, queue, itertools.count(100)), queue

    batches, queue = asyncio.run(work())
    counts = [len(batches.get(replica, ())) for replica in replicas]
    assert len(queue) == waiting - sum(counts)
    return counts


def reserved(replicas, suspects, others_wait=False):
    """Which replicas are reserved for suspects."""
    count = reserve(replicas, suspects, others_wait)
    names = [name for name, replica in enumerate(replicas) if replica.state is ReplicaState.RESERVED]
    assert len(names) == count
    return names


@pytest.mark.parametrize(
    ("held", "waiting", "counts"),
    [
        ((0, 0), 4, [2, 2]),  # evenly
        ((3, 0), 3, [0, 3]),  # to whom has least to do
        ((4, 4), 8, [0, 0]),  # full, and no more waits than they hold
        ((4, 4), 9, [1, 0]),  # one more: it is at hand when a row is free
        ((4, 4), 100, [1, 1]),
        ((0, 0), 100, [5, 5]),
        ((0, 0), 16, [4, 4]),  # the last round is assigned as rows become free
    ],
)
def test_nobody_is_assigned_more_than_its_rows_but_for_one_while_much_waits(held, waiting, counts):
    assert assigned(holding(*held), waiting) == counts


def test_a_quarter_of_the_rows_is_assigned_ahead():
    assert assigned(holding(0, rows=16), waiting=1000) == [20]


def test_who_leaves_or_is_reserved_for_a_suspect_is_assigned_nothing():
    replicas = holding(0, 0, 0)
    replicas[0].state, replicas[1].state = ReplicaState.DRAINING, ReplicaState.RESERVED
    assert assigned(replicas, waiting=100) == [0, 0, 5]


def test_a_suspect_gets_an_actor_however_much_else_waits():
    """The actor with least to do is full, and is assigned nothing until it is empty."""
    replicas = holding(5, 6)
    assert reserved(replicas, suspects=1, others_wait=True) == [0]
    assert assigned(replicas, waiting=100) == [0, 0]


@pytest.mark.parametrize(
    ("held", "others_wait", "suspects", "for_them"),
    [
        ((3, 1, 2), False, 2, [1, 2]),  # those with least to do
        ((3, 1, 2), False, 9, [0, 1, 2]),
        ((3, 1, 2), True, 9, [1, 2]),  # one of several is left to what else waits
        ((3,), True, 9, [0]),
        ((3, 1, 2), True, 0, []),
    ],
)
def test_as_many_actors_are_reserved_as_suspects_wait(held, others_wait, suspects, for_them):
    assert reserved(holding(*held), suspects, others_wait) == for_them


def test_who_is_reserved_stays_so_until_another_has_less_to_do_or_no_suspect_waits():
    replicas = holding(2, 2)
    replicas[1].state = ReplicaState.RESERVED
    assert reserved(replicas, suspects=1, others_wait=True) == [1]
    del replicas[0].in_flight[0]
    assert reserved(replicas, suspects=1, others_wait=True) == [0]
    assert reserved(replicas, suspects=0, others_wait=True) == []


def test_an_actor_with_a_suspect_is_not_reserved_for_another():
    replicas = holding(1, 4, 4)
    replicas[0].state = ReplicaState.ISOLATING
    assert reserved(replicas, suspects=5, others_wait=True) == [1]
    assert reserved(replicas, suspects=5) == [1, 2]
