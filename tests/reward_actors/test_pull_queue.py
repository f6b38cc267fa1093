"""Who waits for whom, and what is remembered."""

import asyncio

import pytest

from envs.types import RewardQuery
from reward_actors.pool.memo import Memo
from reward_actors.pool.queue import Item, PullQueue


def item(name, priority=0, suspect=False):
    return Item(RewardQuery(name, None), None, priority, suspect=suspect)


def test_the_oldest_group_goes_first_and_arrival_breaks_ties():
    queue = PullQueue()
    for name, priority in (("b1", 2), ("a1", 1), ("b2", 2), ("a2", 1)):
        queue.push(item(name, priority))
    assert [queue.pop().query.sample_id for _ in range(4)] == ["a1", "a2", "b1", "b2"]


def test_suspects_wait_in_a_queue_of_their_own():
    queue = PullQueue()
    queue.push(item("fine"))
    queue.push(item("suspect", suspect=True))
    assert (len(queue), queue.waiting(), queue.waiting(suspect=True)) == (2, 1, 1)
    assert queue.pop(suspect=True).query.sample_id == "suspect"
    with pytest.raises(IndexError):
        queue.pop(suspect=True)


def test_age_is_that_of_the_oldest_and_draining_empties():
    queue = PullQueue()
    assert queue.age() == 0
    old = item("old")
    old.since -= 5
    queue.push(item("new"))
    queue.push(old)
    assert 5 <= queue.age() < 6
    assert len(queue.drain()) == 2
    assert len(queue) == 0


def test_the_memo_forgets_what_was_used_longest_ago():
    memo = Memo(2)
    memo.put("a", 1)
    memo.put("b", 2)
    assert memo.get("a") == 1
    memo.put("c", 3)
    assert (memo.get("a"), memo.get("b"), memo.get("c")) == (1, None, 3)


def test_a_memo_without_room_remembers_nothing():
    memo = Memo(0)
    memo.put("a", 1)
    assert memo.get("a") is None


def test_equal_answers_about_one_picture_are_one_query():
    assert RewardQuery("a", object()) == RewardQuery("a", asyncio)
    assert RewardQuery("a", None).key == RewardQuery("a", 1).key


def test_what_two_clients_wait_for_becomes_the_other_s_when_the_first_is_gone():
    asked, other = item("first", priority=1), item("second", priority=9)
    other.client, asked.others = "b", {"b": other}
    assert asked.pass_on()
    assert (asked.client, asked.priority, asked.query) == ("b", 9, other.query)
    assert not asked.pass_on()
