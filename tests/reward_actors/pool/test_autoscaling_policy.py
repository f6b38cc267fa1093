"""The autoscaler grows fast, shrinks slowly and never flutters."""

from hypothesis import given
from hypothesis import strategies as st

from reward_actors.pool.autoscaling_policy import Limits, Load, Scale, rescale

LIMITS = Limits(fewest=1, most=16, patience=5, idle=0.5, calm=30)
QUIET = Load(queue_age=0, busy=0.1, arrivals=0.1, service=1)
loads = st.builds(Load, st.floats(0, 100), st.floats(0, 1), st.floats(0, 100), st.floats(0.01, 10))


def test_an_old_queue_grows_the_pool_towards_what_the_arrivals_need():
    rush = Load(queue_age=10, busy=1.0, arrivals=8, service=1)
    assert rescale(Scale(2), rush, 0, LIMITS).actors == 4  # twofold at most
    assert rescale(Scale(8), rush, 0, LIMITS).actors == 10  # 8 a second, a quarter more for peaks


def test_an_idle_pool_shrinks_one_by_one_and_only_after_a_calm():
    scale, sizes = Scale(4), []
    for now in range(0, 200, 10):
        scale = rescale(scale, QUIET, now, LIMITS)
        sizes.append(scale.actors)
    assert sizes[:3] == [4, 4, 4]
    assert sizes == sorted(sizes, reverse=True)
    assert max(a - b for a, b in zip(sizes, sizes[1:], strict=False)) == 1
    assert sizes[-1] == 1


def test_a_busy_moment_starts_the_calm_anew():
    scale = rescale(Scale(4), QUIET, 0, LIMITS)
    scale = rescale(scale, Load(0, 0.9, 3, 1), 20, LIMITS)
    assert scale.calm_since is None
    assert rescale(scale, QUIET, 40, LIMITS).actors == 4


def test_between_the_two_thresholds_nothing_moves():
    scale = Scale(4)
    for now in range(0, 1000, 10):
        scale = rescale(scale, Load(queue_age=2, busy=0.7, arrivals=3, service=1), now, LIMITS)
    assert scale == Scale(4)


@given(load=loads, actors=st.integers(1, 16), now=st.floats(0, 1e6))
def test_it_never_leaves_its_limits(load, actors, now):
    assert LIMITS.fewest <= rescale(Scale(actors), load, now, LIMITS).actors <= LIMITS.most
