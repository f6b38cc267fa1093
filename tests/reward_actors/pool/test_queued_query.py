"""The states of a query, and what makes it to blame."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.types import Failed, RewardQuery, Scored
from reward_actors.pool.queue import MAX_ATTEMPTS, QueryState, QueuedQuery, state_after_failure

QUEUED, RUNNING, SUSPECT, PROBING, ISOLATED, DONE = QueryState


def item(name="one", **options):
    return QueuedQuery(RewardQuery(name, None), None, **options)


@pytest.mark.parametrize(
    ("state", "attempts", "actor_died", "after"),
    [
        (RUNNING, 0, True, (SUSPECT, 0)),  # nobody knows which of its neighbours killed the actor
        (PROBING, 1, True, (SUSPECT, 1)),  # the actor was dead before it came
        (ISOLATED, 0, True, (SUSPECT, 1)),
        (ISOLATED, 1, True, (DONE, 2)),
        (RUNNING, 1, False, (SUSPECT, 1)),  # the actor lives; a neighbour may have broken the batch
        (ISOLATED, 0, False, (DONE, 0)),
        (PROBING, 0, False, (DONE, 0)),  # it could not even be sent
    ],
)
def test_a_query_is_to_blame_only_for_what_happens_while_it_is_alone(state, attempts, actor_died, after):
    assert state_after_failure(state, attempts, actor_died) == after


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_it_is_given_up_after_so_many_deaths_alone_and_no_sooner(shifts):
    """However often actors die beside others, or are dead before it comes."""
    query, alone = item(), 0
    for lived, in_company in shifts:
        query.state = QUEUED if in_company else SUSPECT
        query.assign()
        if lived:
            query.isolate()
        alone += query.state is ISOLATED
        query.state, query.attempts = state_after_failure(query.state, query.attempts, actor_died=True)
        assert (query.state is DONE) == (alone == MAX_ATTEMPTS)
        if query.state is DONE:
            break


def test_the_way_of_a_query_that_nothing_happens_to():
    async def work():
        query = QueuedQuery(RewardQuery("one", None), asyncio.get_running_loop().create_future())
        states = [query.state]
        query.assign()
        states.append(query.state)
        query.answer(Scored(1.0), "prior")
        query.answer(Failed("too late"))
        return [*states, query.state], query.result.result(), query.fingerprint

    assert asyncio.run(work()) == ([QUEUED, RUNNING, DONE], Scored(1.0), "prior")


def test_one_whose_client_left_is_not_isolated_any_more():
    query = item(state=DONE)
    query.isolate()
    query.assign()
    assert query.state is DONE


def test_equal_answers_about_one_picture_are_one_query():
    assert RewardQuery("a", object()) == RewardQuery("a", asyncio)
    assert RewardQuery("a", None).key == RewardQuery("a", 1).key


def test_what_two_clients_wait_for_becomes_the_other_s_when_the_first_is_gone():
    asked, other = item("first", priority=1), item("second", priority=9)
    other.client, asked.others = "b", {"b": other}
    assert asked.pass_on()
    assert (asked.client, asked.priority, asked.query) == ("b", 9, other.query)
    assert not asked.pass_on()
