"""Why an actor did nothing: no work had come, or those after it had not caught up, or it was not there."""

from hypothesis import given
from hypothesis import strategies as st

from learner.rl.metrics import Idle, learner_idle, reward_idle, rollout_idle

seconds, shares = st.floats(0, 100), st.floats(0, 1)


def test_engines_starve_at_the_end_of_a_step_and_are_blocked_before_the_next():
    assert rollout_idle(wall=10, engines=2, busy=8, sampling=6, restarting=0) == Idle(starved=4, blocked=8)


def test_an_engine_that_restarts_neither_starves_nor_is_blocked():
    assert rollout_idle(wall=10, engines=1, busy=4, sampling=10, restarting=6) == Idle(0, 0, 6)


def test_reward_actors_wait_for_queries_only():
    assert reward_idle(wall=10, actors=2, busy=15, restarting=2) == Idle(3, 0, 2)


def test_the_learner_waits_for_groups_or_for_the_weights_to_be_taken():
    assert learner_idle(wall=10, busy=3, syncing=2) == Idle(starved=5, blocked=2)


@given(wall=seconds, actors=st.integers(1, 8), busy=shares, sampling=shares, restarting=shares)
def test_busy_and_idle_seconds_are_all_the_time_there_is(wall, actors, busy, sampling, restarting):
    busy, restarting = wall * actors * busy, wall * actors * (1 - busy) * restarting
    for idle in (
        rollout_idle(wall, actors, busy, wall * sampling, restarting),
        reward_idle(wall, actors, busy, restarting),
    ):
        total = busy + idle.starved + idle.blocked + idle.restarting
        assert abs(total - wall * actors) < 1e-6 * (1 + total)
        assert min(idle.starved, idle.blocked, idle.restarting) >= 0
