"""Whose turn it is, where several clients wait. No engine."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_actors.pool.queue import PullQueue


def filled(**counts):
    """A queue in which each client has that many items waiting; an item is (client, number)."""
    queue = PullQueue()
    for client, count in counts.items():
        for number in range(count):
            queue.push((client, number), client=client)
    return queue


def served(queue, count):
    return [queue.pop()[0] for _ in range(count)]


def test_those_who_always_wait_take_turns_however_much_each_has_brought():
    queue = filled(greedy=1000, modest=10, third=10)
    for turn in range(10):
        assert set(served(queue, 3)) == {"greedy", "modest", "third"}, turn
    assert set(served(queue, 20)) == {"greedy"}  # nobody else waits: nothing is held back


def test_within_a_client_the_lowest_priority_goes_first_and_arrival_breaks_ties():
    queue = PullQueue()
    for name, priority, client in (("a3", 3, "a"), ("b9", 9, "b"), ("a1", 1, "a"), ("A1", 1, "a"), ("b2", 2, "b")):
        queue.push(name, priority, client)
    taken = [queue.pop() for _ in range(5)]
    assert [name for name in taken if name[0] in "aA"] == ["a1", "A1", "a3"]
    assert [name for name in taken if name[0] == "b"] == ["b2", "b9"]
    assert taken[-1] == "a3"  # low numbers of one client do not overtake another


def test_who_was_idle_gets_no_credit_for_it():
    queue = filled(steady=500)
    served(queue, 300)
    for number in range(100):
        queue.push(("late", number), client="late")
    assert Counter(served(queue, 100)) == {"steady": 50, "late": 50}


def test_who_asks_one_at_a_time_is_not_ahead_of_who_queues():
    queue, taken = filled(queued=100), Counter()
    queue.push(("single", 0), client="single")
    for _ in range(60):
        client, number = queue.pop()
        taken[client] += 1
        if client == "single":
            queue.push((client, number + 1), client=client)
    assert taken == {"queued": 30, "single": 30}


def test_who_was_alone_owes_nothing_to_who_comes_after():
    queue = filled(first=10)
    served(queue, 10)
    for number in range(10):
        queue.push(("second", number), client="second")
        queue.push(("first", number), client="first")
    assert Counter(served(queue, 10)) == {"first": 5, "second": 5}


def test_what_a_client_has_waiting_can_be_taken_out_and_the_rest_goes_on():
    queue = filled(leaving=3, staying=2)
    assert queue.remove("leaving") == [("leaving", number) for number in range(3)]
    assert queue.remove("leaving") == queue.remove("stranger") == []
    assert sorted(queue) == [("staying", 0), ("staying", 1)]
    assert served(queue, 2) == ["staying"] * 2
    with pytest.raises(IndexError):
        queue.pop()


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=200))
def test_while_two_wait_neither_gets_more_than_two_turns_ahead(steps):
    """Whatever comes and goes in between."""
    queue, since = PullQueue(), {}
    for number, (push, client) in enumerate(steps):
        if push:
            queue.push((client, number), client=client)
        elif len(queue):
            taken, _ = queue.pop()
            for pair in since:
                since[pair] += (taken == pair[0]) - (taken == pair[1])
        waiting = sorted({client for client, _ in queue})
        pairs = [(a, b) for i, a in enumerate(waiting) for b in waiting[i + 1 :]]
        since = {pair: since.get(pair, 0) for pair in pairs}
        assert all(abs(ahead) <= 2 for ahead in since.values()), since


@given(st.lists(st.integers(0, 5), max_size=60))
def test_a_single_client_is_served_as_by_a_plain_priority_queue(priorities):
    queue = PullQueue()
    for number, priority in enumerate(priorities):
        queue.push((priority, number), priority)
    assert len(list(queue)) == len(queue) == len(priorities)
    assert [queue.pop() for _ in priorities] == sorted((p, n) for n, p in enumerate(priorities))
