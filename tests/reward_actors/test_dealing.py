"""Which actor is handed what waits; no Ray."""

from types import SimpleNamespace

import pytest

from reward_actors.pool.dealing import dealt, keep
from reward_actors.pool.queue import Item, PullQueue
from reward_actors.pool.slot import Slot


def crew(*held, waiting=0, suspects=0, rows=4):
    """Actors with `rows` rows that hold so many queries, and what waits in the queue."""
    made = SimpleNamespace(slots=[], queue=PullQueue())
    for name, count in enumerate(held):
        slot = Slot(str(name))
        slot.live, slot.rows, slot.in_flight = True, rows, dict.fromkeys(range(count))
        made.slots.append(slot)
    for number in range(waiting + suspects):
        made.queue.push(Item(None, None, suspect=number >= waiting))
    return made


def handed(made):
    """How many each actor is handed."""
    parcels = dealt(made.slots, made.queue)
    return [len(parcels.get(slot, ())) for slot in made.slots]


def kept(made):
    """Which actors are kept for suspects."""
    keep(made.slots, made.queue)
    return [name for name, slot in enumerate(made.slots) if slot.alone]


@pytest.mark.parametrize(
    ("held", "waiting", "counts"),
    [
        ((0, 0), 4, [2, 2]),  # evenly
        ((3, 0), 3, [0, 3]),  # to whom has least to do
        ((4, 4), 8, [0, 0]),  # full, and no more waits than they hold
        ((4, 4), 9, [1, 0]),  # one more: it is at hand when a row is free
        ((4, 4), 100, [1, 1]),
        ((0, 0), 100, [5, 5]),
        ((0, 0), 16, [4, 4]),  # the last round is dealt as rows become free
    ],
)
def test_nobody_is_handed_more_than_its_rows_but_for_one_while_much_waits(held, waiting, counts):
    made = crew(*held, waiting=waiting)
    assert handed(made) == counts
    assert made.queue.waiting() == waiting - sum(counts)


def test_a_quarter_of_the_rows_is_handed_ahead():
    assert handed(crew(0, waiting=1000, rows=16)) == [20]


def test_who_leaves_or_is_kept_for_a_suspect_is_handed_nothing():
    made = crew(0, 0, 0, waiting=100)
    made.slots[0].draining = made.slots[1].alone = True
    assert handed(made) == [0, 0, 5]


def test_a_suspect_gets_an_actor_however_much_else_waits():
    """The actor with least to do is full, and is handed nothing until it is empty."""
    made = crew(5, 6, waiting=100, suspects=1)
    assert kept(made) == [0]
    assert handed(made) == [0, 0]


@pytest.mark.parametrize(
    ("held", "waiting", "suspects", "for_them"),
    [
        ((3, 1, 2), 0, 2, [1, 2]),  # those with least to do
        ((3, 1, 2), 0, 9, [0, 1, 2]),
        ((3, 1, 2), 1, 9, [1, 2]),  # one of several is left to what else waits
        ((3,), 1, 9, [0]),
        ((3, 1, 2), 5, 0, []),
    ],
)
def test_as_many_actors_are_kept_as_suspects_wait(held, waiting, suspects, for_them):
    assert kept(crew(*held, waiting=waiting, suspects=suspects)) == for_them


def test_who_is_kept_stays_so_until_another_has_less_to_do_or_no_suspect_waits():
    made = crew(2, 2, suspects=1, waiting=1)
    made.slots[1].alone = True
    assert kept(made) == [1]
    del made.slots[0].in_flight[0]
    assert kept(made) == [0]
    made.queue.pop(suspect=True)
    assert kept(made) == []


def test_an_actor_with_a_suspect_is_not_kept_for_another():
    made = crew(1, 4, 4, waiting=1, suspects=5)
    made.slots[0].alone = made.slots[0].trying = True
    assert kept(made) == [0, 1]
