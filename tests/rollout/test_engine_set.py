"""What happens when an engine is lost while it holds several prompts; a stand-in for its restart."""

import asyncio

import pytest
import ray
from ray.exceptions import RayActorError, RayTaskError

from configs.schema import Config
from envs.types import Group, Prompt
from rollout.pool import RolloutPool
from rollout.replicas import EngineSet, EngineState, Place
from rollout.weights import transfer
from rollout.weights.manifest import Manifest
from rollout.weights.transfer import EngineClient, EngineLostError, TransferError
from rollout.weights.update import WeightUpdate, WeightUpdateError


def running(engines, *handles):
    """The set's engines as they are after `start`."""
    for engine, handle in zip(engines._engines, handles, strict=True):
        engine.handle = handle
        engines._admit(engine)


def place_at(engines, index=0):
    engine = engines._engines[index]
    return Place(index, engine.attempt, engine.handle)


def new_attempt(engines, index, handle):
    engine = engines._engines[index]
    engine.state, engine.attempt, engine.in_flight, engine.handle = EngineState.STARTING, engine.attempt + 1, 0, handle


def test_the_time_of_one_restart_counts_once_however_many_prompts_waited_for_it(tmp_path):
    async def scene():
        engines, restarted = EngineSet(Config(), tmp_path, object), []
        running(engines, "lost")

        async def restart(index, error):
            restarted.append(index)
            new_attempt(engines, index, "new")
            await asyncio.sleep(0.2)

        engines._restart = restart
        for place in [await engines.take() for _ in range(4)]:
            engines.report_lost(place, EngineLostError("gone"))
        places = [await asyncio.wait_for(engines.take(), 5) for _ in range(4)]
        return restarted, places, engines.stats.restart_seconds

    restarted, places, seconds = asyncio.run(scene())
    assert restarted == [0]
    assert places == [Place(0, 1, "new")] * 4
    assert 0.2 <= seconds < 0.4


def test_an_engine_that_is_lost_again_before_it_has_its_weights_is_started_once_more(tmp_path):
    async def scene():
        engines, restarts = EngineSet(Config(), tmp_path, object), []
        running(engines, "lost")
        engines._source = "the learner"

        async def restart(index, error):
            restarts.append(str(error))
            new_attempt(engines, index, f"new {len(restarts)}")

        async def send(handles):
            if handles == ["new 1"]:
                raise EngineLostError("gone again")

        engines._restart, engines._send = restart, send
        engines.report_lost(place_at(engines), EngineLostError("gone"))
        return await asyncio.wait_for(engines.take(), 5), restarts

    assert asyncio.run(scene()) == (Place(0, 2, "new 2"), ["gone", "gone again"])


def test_prompts_go_to_the_engine_that_holds_fewest_and_never_more_than_it_may(tmp_path):
    async def scene():
        config = Config()
        config.rollout.actors, config.rollout.in_flight = 2, 2
        engines = EngineSet(config, tmp_path, object)
        running(engines, "a", "b")
        places = [await engines.take() for _ in range(4)]
        fifth = asyncio.ensure_future(engines.take())
        await asyncio.sleep(0.05)
        assert not fifth.done()
        engines.free(places[1])
        return [place.handle for place in places], (await asyncio.wait_for(fifth, 5)).handle

    assert asyncio.run(scene()) == (["a", "b", "a", "b"], "b")


def test_a_place_of_an_engine_that_was_replaced_frees_nothing(tmp_path):
    async def scene():
        engines = EngineSet(Config(), tmp_path, object)
        running(engines, "old")
        old = await engines.take()
        new_attempt(engines, 0, "new")
        engines._admit(engines._engines[0])
        await engines.take()
        engines.free(old)
        engines.report_lost(old, EngineLostError("gone"))
        return engines._engines[0]

    engine = asyncio.run(scene())
    assert engine.in_flight == 1
    assert engine.state is EngineState.READY


def test_too_many_losses_end_whoever_waits_for_a_place(tmp_path):
    async def scene():
        engines = EngineSet(Config(), tmp_path, object)
        running(engines, "lost")

        async def restart(index, error):
            raise RuntimeError("lost 21 rollout engines")

        engines._restart = restart
        engines.report_lost(await engines.take(), EngineLostError("gone"))
        for _ in range(2):
            with pytest.raises(RuntimeError, match="lost 21"):
                await asyncio.wait_for(engines.take(), 5)

    asyncio.run(scene())


class Call:
    """A stand-in for a method of an actor's handle."""

    def __init__(self, outcome):
        self.outcome = outcome

    def remote(self, *_):
        return self.outcome


class Handle:
    def __init__(self, outcome):
        self.begin_update = Call(outcome)


@pytest.mark.parametrize(
    ("causes", "raised", "message"),
    [
        ([EngineLostError("the engine ended")], EngineLostError, r"in a weight update: the engine ended$"),
        ([ValueError("bad shape")], TransferError, r"an engine could not take the weights: bad shape$"),
        ([ValueError("bad shape"), RayActorError()], EngineLostError, r"in a weight update: "),
        ([TimeoutError, EngineLostError("it ended")], EngineLostError, r"in a weight update: it ended$"),
        ([None, TimeoutError], EngineLostError, r"in a weight update: no answer in time, it hangs$"),
    ],
)
def test_a_failed_update_names_its_cause_without_the_traceback_that_ray_wraps_it_in(
    causes, raised, message, monkeypatch
):
    def get(call, timeout=None):
        if isinstance(call, list):
            return [get(each) for each in call]
        if isinstance(call, RayActorError):
            raise call
        if isinstance(call, Exception):
            raise RayTaskError("receive", "Traceback:\n  File ...", call).as_instanceof_cause()
        return call

    monkeypatch.setattr(transfer.ray, "get", get)
    monkeypatch.setattr(
        transfer.ray, "wait", lambda calls, **_: ([c for c in calls if c is not TimeoutError], TimeoutError in calls)
    )
    client = EngineClient([Handle(cause) for cause in causes], 1, 20, 0)
    try:
        client.start_weight_update()
    except ray.exceptions.RayError as error:
        explained = client.explain(error)
    else:
        explained = client.explain(RuntimeError("gloo: timed out"))
    assert type(explained) is raised
    with pytest.raises(raised, match=message):
        raise explained


class Source:
    """A learner that sends, or fails as it is told. sent: engines of each update, and whether all tensors went."""

    def __init__(self, *outcomes):
        self.outcomes, self.sent = list(outcomes), []

    async def manifest(self):
        return Manifest(("a", "b"), ("float32", "float32"), ((2,), (3,)), frozenset("b"))

    async def send(self, engines, whole):
        self.sent.append((tuple(engines), whole))
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def test_engines_get_every_tensor_first_and_after_a_failure_and_else_what_changes(monkeypatch):
    monkeypatch.setattr(Manifest, "check", lambda self, folder: None)
    source, update = Source(1, 2, 3, EngineLostError("gone"), 4), WeightUpdate("policy")
    sizes = []

    async def scene():
        for engines in ("ab", "ab", "ac", "ac", "ac"):
            try:
                await update.run(engines, source)
                sizes.append(update.bytes)
            except EngineLostError:
                sizes.append("lost")

    asyncio.run(scene())
    assert [whole for _, whole in source.sent] == [True, False, True, False, True]
    assert sizes == [20, 8, 20, "lost", 20]


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (TransferError("an engine could not take the weights: x"), "^an engine could not take the weights: x$"),
        (ValueError("no memory"), "^the learner could not send weights: no memory$"),
    ],
)
def test_an_update_that_no_new_engine_would_cure_ends_with_its_cause(failure, message, monkeypatch):
    monkeypatch.setattr(Manifest, "check", lambda self, folder: None)
    with pytest.raises(WeightUpdateError, match=message):
        asyncio.run(WeightUpdate("policy").run(["a"], Source(failure)))


class Engine:
    """Answers, or is lost."""

    def __init__(self, lost, weights):
        self.lost, self.weights = lost, weights
        self.generate = self

    async def remote(self, prompt, *options):
        if self.lost:
            raise EngineLostError("gone")
        return Group(prompt, (), self.weights)


def test_a_request_that_is_cancelled_while_its_engine_is_replaced_leaves_no_place_taken(tmp_path):
    async def scene():
        pool, prompt = RolloutPool(Config(), tmp_path), Prompt("sample", None)
        engines = pool._engines
        running(engines, Engine(lost=True, weights=0))

        async def restart(index, error):
            new_attempt(engines, index, Engine(lost=False, weights=3))
            await asyncio.sleep(0.2)

        engines._restart = restart
        asking = asyncio.ensure_future(anext(pool.sample([prompt])))
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.wait([asking])
        group = await asyncio.wait_for(anext(pool.sample([prompt])), 5)
        await asyncio.sleep(0.05)
        return group, engines._engines[0].in_flight

    group, in_flight = asyncio.run(scene())
    assert group.weight_version == 3
    assert in_flight == 0


def test_nothing_is_asked_of_a_new_engine_before_it_has_its_weights(tmp_path):
    """The lost engine had room for several prompts: its free places must not lead to the new one at once."""

    async def scene():
        pool = RolloutPool(Config(), tmp_path)
        engines = pool._engines
        running(engines, Engine(lost=True, weights=7))
        engines._source = "the learner"

        async def restart(index, error):
            new_attempt(engines, index, Engine(lost=False, weights=0))
            await asyncio.sleep(0.2)

        async def send(handles):
            await asyncio.sleep(0.1)
            handles[0].weights = 8

        engines._restart, engines._send = restart, send
        prompts = [Prompt(f"sample-{i}", None) for i in range(3)]
        return [group.weight_version async for group in pool.sample(prompts)]

    assert asyncio.run(scene()) == [8, 8, 8]
