"""Which actor is handed what waits; no Ray."""

import pytest

from configs.schema import Reward
from reward_actors.crew import Crew
from reward_actors.queue import Item
from reward_actors.slot import Slot


def crew(*held, waiting, rows=4):
    """Actors with `rows` rows that hold so many queries, and `waiting` queries in the queue."""
    made = Crew(object, Reward(), 64)
    for name, count in enumerate(held):
        slot = Slot(str(name))
        slot.live, slot.rows, slot.in_flight = True, rows, dict.fromkeys(range(count))
        made.roster.slots.append(slot)
    for _ in range(waiting):
        made.queue.push(Item(None, None))
    return made


def dealt(made):
    """How many each actor is handed."""
    parcels = made._dealt()
    return [len(parcels.get(slot, ())) for slot in made.roster.slots]


@pytest.mark.parametrize(
    ("held", "waiting", "handed"),
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
def test_nobody_is_handed_more_than_its_rows_but_for_one_while_much_waits(held, waiting, handed):
    made = crew(*held, waiting=waiting)
    assert dealt(made) == handed
    assert made.queue.waiting() == waiting - sum(handed)


def test_a_quarter_of_the_rows_is_handed_ahead():
    assert dealt(crew(0, waiting=1000, rows=16)) == [20]


def test_who_leaves_or_is_kept_for_a_suspect_is_handed_nothing():
    made = crew(0, 0, 0, waiting=100)
    made.roster.slots[0].draining = made.roster.slots[1].alone = True
    assert dealt(made) == [0, 0, 5]
