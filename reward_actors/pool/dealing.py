"""Which actor takes what waits."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from reward_actors.pool.queue import Item, PullQueue
from reward_actors.pool.slot import Slot


def keep(slots: Sequence[Slot], queue: PullQueue) -> None:
    """Keeps an actor for each suspect that waits (`alone`), those with least to do; the others take work of any kind.

    Where other work waits too, one of several actors is left to it.
    """
    able = [slot for slot in slots if slot.live and not slot.draining]
    free = [slot for slot in able if not slot.trying]
    most = max(1, len(able) - bool(queue.waiting())) - (len(able) - len(free))
    count = min(queue.waiting(suspect=True), most)
    free.sort(key=lambda slot: (len(slot.in_flight), not slot.alone))  # who is kept already has less and less to do
    for place, slot in enumerate(free):
        slot.alone = place < count


def dealt(slots: Sequence[Slot], queue: PullQueue) -> dict[Slot, list[Item]]:
    """What waits, taken out of the queue one after the other for the actor with the least to do, as far as they have
    room.

    While more waits than all of them hold, each is handed a few `ahead`; not at the end, when another would be
    idle for it."""
    heap = [(len(slot.in_flight), place, slot) for place, slot in enumerate(slots) if slot.takes_work]
    heapq.heapify(heap)
    rows, parcels = sum(slot.rows for *_, slot in heap), {}
    while queue.waiting() and heap:
        load, place, slot = heapq.heappop(heap)
        ahead = slot.ahead if queue.waiting() > rows else 0
        if load < slot.rows + ahead:
            parcels.setdefault(slot, []).append(queue.pop())
            heapq.heappush(heap, (load + 1, place, slot))
    return parcels
