"""Processes of an RL job killed at random moments: every step is that of an undisturbed run, and nothing is left."""

import os
import random
import time

import psutil
import pytest
from broken_job import Job, changed

pytestmark = [pytest.mark.chaos, pytest.mark.faults, pytest.mark.timeout(9000)]
KILLS = int(os.environ.get("FAULTS", "4"))
A_RUN = 20
"""Kills in one run."""
SETTINGS = ["max_failures=100", "reward.timeout=10", "rollout.timeout=30"]
VICTIMS = ["ray::RewardActor", "ray::RolloutActor", "VLLM::EngineCore", "ray::LearnerWorker", "driver"]


def begin(corpus, out, steps):
    return Job("offline", corpus, out, *SETTINGS, f"steps={steps}")


def killed(job, title):
    """Kills a process of that kind, if there is one just now; tells whether."""
    if title == "driver":
        family = job.driver.children(recursive=True)
        job.driver.kill()
        assert [each.cmdline() for each in psutil.wait_procs(family, timeout=90)[1] if each.is_running()] == []
        return True
    victims = job.processes(title)
    for victim in victims[:1]:
        victim.kill()
    return bool(victims)


@pytest.mark.parametrize("run", range(-(-KILLS // A_RUN)))
def test_a_run_that_is_struck_at_random_moments_takes_the_steps_of_one_that_is_not(corpus, whole, tmp_path, run):
    dice, job, struck = random.Random(run), None, []
    steps, kills = len(whole), min(A_RUN, KILLS - run * A_RUN)
    try:
        job = begin(corpus, tmp_path / "run", steps)
        while len(struck) < kills and job.step() < steps - 2:
            time.sleep(dice.uniform(1, 40))
            if job.driver.poll() is None and job.step() < steps - 2:
                title = dice.choice(VICTIMS)
                if killed(job, title):
                    struck.append((title, job.step()))
            if job.driver.poll() is not None:
                assert "Traceback" not in job.said(), (struck, job.said())
                job = begin(corpus, tmp_path / "run", steps)
        while job.finish(900) != 0:  # a part that was killed while the job began
            assert job.driver.returncode in (1, 2), (struck, job.said())
            assert "Traceback" not in job.said(), (struck, job.said())
            job = begin(corpus, tmp_path / "run", steps)
    finally:
        if job:
            job.end()
    assert [row["step"] for row in job.rows()] == list(range(1, steps + 1)), struck
    assert changed(job.rows(), whole) == 0, struck
