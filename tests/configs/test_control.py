"""Wishes to a running job, on a real cluster."""

import pytest

from configs import UserError, control, load


@pytest.mark.engine
def test_a_wish_reaches_the_job_it_names_once(ray_cluster):
    config = load("offline", ["name=control-test"])
    with pytest.raises(UserError, match="found none"):
        control.scale_rewards(config, 3)
    first, second = control.open_desk(config, "offline"), control.open_desk(config, "online")
    ray_cluster.get([first.take_rewards.remote(), second.take_rewards.remote()])
    with pytest.raises(UserError, match="say which"):
        control.scale_rewards(config, 3)
    assert control.scale_rewards(config, 3, "control-test/online").endswith("runs/control-test/online")
    assert control.wished_rewards(first) is None
    assert control.wished_rewards(second) == 3
    assert control.wished_rewards(second) is None
    with pytest.raises(UserError, match="expected 1 .. 4096"):
        control.scale_rewards(config, 0)
    for desk in (first, second):
        ray_cluster.kill(desk)
