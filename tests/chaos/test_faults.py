"""One job, one fault after the other, each in the middle of work: every step is that of an undisturbed run."""

import json
import signal
import time

import psutil
import pytest
from broken_job import CONTINUED, Job, outcome, strike
from conftest import STEPS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]

KILL, STOP = signal.SIGKILL, signal.SIGSTOP
REWARD, ENGINE, ANEW = (
    r"reward actor reward-\d+ is started anew: .*",
    "rollout engine 0 is started anew: .*",
    r"failed, and starts again from the newest checkpoint \(\d left\): .*",
)
FAULTS = [  # the last: seconds in which it is noticed
    ("reward actor killed", "ray::RewardActor", KILL, REWARD + "RewardActor .* died.* Its log", 5),
    ("rollout actor killed", "ray::RolloutActor", KILL, ENGINE + "RolloutActor .* died.* Its log", 5),
    ("engine killed in its actor", "VLLM::EngineCore", KILL, ENGINE + "the engine process ended", 15),
    ("learner rank killed", "ray::LearnerWorker", KILL, ANEW + "LearnerWorker .* died.* Its log", 45),
    ("reward actor hangs", "ray::RewardActor", STOP, REWARD + "hang", 20),
    ("rollout actor hangs", "ray::RolloutActor", STOP, ENGINE + "hang", 60),
    ("engine hangs in its actor", "VLLM::EngineCore", STOP, ENGINE + "hang", 60),
    ("learner rank hangs", "ray::LearnerWorker", STOP, ANEW + r"learner ranks \[\d\] .* hang", 110),
]
SETTINGS = [f"steps={STEPS}", "max_failures=2", "reward.timeout=5", "rollout.timeout=20"]


@pytest.fixture(scope="module")
def place(corpus, whole, tmp_path_factory):
    """Where the job of this module works; its undisturbed twin has run by then."""
    return "offline", corpus, tmp_path_factory.mktemp("broken") / "run", *SETTINGS


@pytest.fixture(scope="module")
def job(place):
    job = Job(*place)
    yield job
    job.end()


@pytest.mark.parametrize(("fault", "title", "how", "sign", "deadline"), FAULTS, ids=[fault for fault, *_ in FAULTS])
def test_what_is_lost_comes_back_and_no_step_is_another(job, whole, record, fault, title, how, sign, deadline):
    job.until(lambda: job.step() >= 1, 400)
    victim = job.at_work(title)
    found = strike(job, fault, lambda: victim.send_signal(how), sign, whole)
    record(found)
    assert (found.lost, found.changed) == (0, 0)
    assert found.repeated <= 2
    assert found.noticed < deadline


def test_a_killed_driver_leaves_nothing_and_the_same_command_finishes_the_run(job, place, whole, record):
    job.until(lambda: job.step() >= 1, 400)
    job.at_work("ray::LearnerWorker")
    family, before, began = job.driver.children(recursive=True), job.step(), time.monotonic()
    job.driver.kill()
    left = psutil.wait_procs(family, timeout=90)[1]
    assert [process.cmdline() for process in left if process.is_running()] == []
    noticed = time.monotonic() - began
    again = Job(*place)
    when, line = again.until(lambda: again.heard(CONTINUED), 300)
    again.until(lambda: again.step() > before + 1, 240)
    recovered = time.monotonic() - began
    assert again.finish() == 0, again.said()
    repeated = before + 1 - int(line.rpartition("-")[2])
    found = outcome("driver killed", again.rows(), whole, noticed, recovered, repeated, line)
    record(found)
    assert [row["step"] for row in again.rows()] == list(range(1, STEPS + 1))
    assert (found.lost, found.changed) == (0, 0)
    assert json.loads((again.out / "summary.json").read_text())["steps"] == STEPS
