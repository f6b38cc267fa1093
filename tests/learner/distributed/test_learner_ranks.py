"""Two DeepSpeed ranks on a real Ray cluster against the plain single-process trainer."""

import os
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
import ray
import torch
from reference_trainer import ReferenceTrainer
from safetensors.torch import load_file

from configs.schema import Config
from envs.types import Sample
from learner.distributed.group import LearnerError, LearnerGroup
from learner.losses import Trajectory
from learner.policy.collator import Example
from rollout.weights.gloo import join, receive
from rollout.weights.transfer import EngineLostError

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("ray_cluster")]
TOTAL = 8  # of the schedule


def settings(zero=2, **changes) -> Config:
    config = Config()
    config.world.size = 64
    config.learner.zero, config.learner.micro_tokens, config.learner.warmup = zero, 170, 2
    for name, value in changes.items():
        setattr(config.learner if hasattr(config.learner, name) else config.grpo, name, value)
    return config


@pytest.fixture
def start(policy_folder):
    """Starts learners that end with the test."""
    started = []

    def begin(config, reference=None):
        started.append(LearnerGroup(config, policy_folder, TOTAL, reference))
        return started[-1]

    yield begin
    for learner in started:
        learner.close()


def trajectories(examples):
    """Judged completions of four images, two each, as an engine with other weights might have sampled."""
    rng = np.random.default_rng(5)
    found = []
    for i, example in enumerate(examples):
        shown = examples[i // 2 * 2]
        logprobs = tuple(float(x) for x in rng.normal(-7, 0.5, len(example.completion)))
        found.append(Trajectory(Example(shown.image, example.completion), logprobs, float(rng.normal())))
    return found


def weights_of(learner, folder):
    learner.save_policy(folder)
    return load_file(folder / "model.safetensors")


def assert_agree(learner, trainer, folder):
    """Adam moves every weight by about the learning rate however small its gradient, so where a gradient is
    rounding noise a weight goes either way; nearly all agree far more closely than one such step."""
    found, expected = weights_of(learner, folder), dict(trainer.model.named_parameters())
    assert found.keys() == expected.keys()
    away = torch.cat([(found[name] - expected[name].detach()).abs().flatten() for name in found])
    rate = trainer.config.learner.lr
    assert away.kthvalue(int(0.99 * away.numel())).values < 0.05 * rate
    assert away.max() < 2 * trainer.steps * rate


STAGES = [2, *(pytest.param(stage, marks=pytest.mark.slow) for stage in (0, 1, 3))]


@pytest.mark.parametrize("zero", STAGES)
def test_steps_are_those_of_one_plain_process(start, examples, policy_folder, tmp_path, zero):
    config = settings(zero, kl=0.1, epochs=2)
    learner = start(config, reference=policy_folder)
    trainer = ReferenceTrainer(policy_folder, config, TOTAL, reference=policy_folder)
    for _ in range(2):
        assert learner.sft_step(examples)["loss"] == pytest.approx(trainer.sft_step(examples), rel=1e-4)
    judged = trajectories(examples)
    for _ in range(2):
        metrics = learner.grpo_step(judged)
        assert metrics["loss"] == pytest.approx(trainer.grpo_step(judged), rel=1e-3, abs=1e-5)
        assert metrics["policy_kl"] > 1e-6
        assert metrics["mismatch"] > 0.1
    assert_agree(learner, trainer, tmp_path)
    compiled = learner._workers[0].__ray_call__.remote(lambda _: sys.modules["deepspeed.comm.comm"].cdb.shm_comm_op)
    assert ray.get(compiled) is None


LOSSES = [
    {"loss": "dr_grpo", "importance": "mask", "kl_estimator": "k2"},
    {"loss": "gspo", "importance": "off", "kl_estimator": "k1"},
    {"loss": "gspo", "importance": "truncate", "clip": [1e-4, 2e-4]},
]


def test_every_loss_is_that_of_one_plain_process_step_for_step(start, examples, policy_folder, tmp_path):
    config = settings(kl=0.1, epochs=2)
    learner = start(config, reference=policy_folder)
    trainer = ReferenceTrainer(policy_folder, config, TOTAL, reference=policy_folder)
    assert len({len(example.completion) for example in examples}) > 1
    judged, losses = trajectories(examples), []
    for chosen in LOSSES:  # on one learner, since starting one takes longer than all steps
        wanted = replace(config.grpo, **chosen)
        choose = lambda actor, wanted: setattr(actor._config, "grpo", wanted)  # noqa: E731 (sent by value)
        ray.get([rank.__ray_call__.remote(choose, wanted) for rank in learner._workers])
        config.grpo = wanted
        losses.append(learner.grpo_step(judged)["loss"])
        assert losses[-1] == pytest.approx(trainer.grpo_step(judged), rel=1e-3, abs=1e-5)
    assert len({round(loss, 4) for loss in losses}) == len(losses)
    assert_agree(learner, trainer, tmp_path)


TRAINED = [
    (0, {}),
    (1, {}),
    (3, {}),
    (2, {"lora": 4}),
    (3, {"lora": 4, "trained": "language"}),
    (2, {"trained": "norms"}),
    (2, {"trained": "final_norm"}),
    (2, {"memory": ["offload"]}),
]


@pytest.mark.parametrize(
    ("zero", "changes"), [(2, {}), *(pytest.param(*one, marks=pytest.mark.slow) for one in TRAINED)]
)
def test_a_learner_that_is_loaded_goes_on_to_the_bit(start, examples, tmp_path, zero, changes):
    first = start(settings(zero, **changes))
    first.sft_step(examples)
    first.save(tmp_path / "saved")
    losses = [first.sft_step(examples) for _ in range(2)]
    second = start(settings(zero, **changes))
    assert second.load(tmp_path / "saved") == 1
    again = [second.sft_step(examples) for _ in range(2)]
    for name in ("loss", "lr", "grad_norm"):
        assert [m[name] for m in losses] == [m[name] for m in again]
    here, there = weights_of(first, tmp_path / "a"), weights_of(second, tmp_path / "b")
    assert all(torch.equal(here[name], there[name]) for name in here)
    sent = [Example(ray.put(Sample("", "", "", e.image)), e.completion) for e in examples]
    assert second.logprobs(sent) == first.logprobs(examples)  # a reference is as good as its image


@pytest.mark.slow
@pytest.mark.parametrize("zero", [0, 2, 3])
def test_a_checkpoint_is_continued_on_another_number_of_ranks(start, examples, tmp_path, zero):
    """Moments and float32 weights are cut anew: two steps later the weights are those of the ranks that went on."""
    first, weights = start(settings(zero)), []
    for _ in range(2):
        first.sft_step(examples)
    (tmp_path / "saved").mkdir()
    first.save(tmp_path / "saved")
    second = start(settings(zero, ranks=1))
    assert second.load(tmp_path / "saved") == 2
    for learner in (first, second):
        losses = [learner.sft_step(examples)["loss"] for _ in range(2)]
        weights.append((losses, weights_of(learner, tmp_path / f"after-{len(weights)}")))
    (losses, here), (others, there) = weights
    assert others == pytest.approx(losses, rel=1e-4)
    away = torch.cat([(here[name] - there[name]).abs().flatten() for name in here])
    assert away.kthvalue(int(0.99 * away.numel())).values < 0.05 * settings().learner.lr


@pytest.mark.chaos
def test_the_death_of_a_rank_is_told_with_its_cause(start, examples):
    learner = start(settings())
    pid = ray.get(learner._workers[1].__ray_call__.remote(lambda actor: os.getpid()))
    learner.sft_step(examples)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(LearnerError, match="SIGKILL|died"):
        learner.sft_step(examples)


@ray.remote
class BareEngine:
    """Takes what a learner sends, as a rollout engine does, without a model."""

    def __init__(self, manifest, dies=False):
        self.manifest, self.dies, self.arrived = manifest, dies, 0

    def open_transfer(self, info):
        self.limit = info["packed_buffer_size_bytes"]
        where = (info["master_address"], info["master_port"], info["rank_offset"], info["world_size"])
        self.group = join(*where, info["timeout"])

    def begin_update(self): ...

    def receive(self, update):
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        self.arrived = sum(len(bucket) for bucket in receive(self.group, self.manifest, self.limit))

    def finish_update(self, version):
        self.version = version

    def seen(self):
        return self.arrived, self.version


@pytest.mark.parametrize("zero", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_an_engine_that_goes_away_in_a_weight_update_leaves_the_ranks_at_work(start, examples, zero):
    """It did not: the ranks were ended for it, and a checkpoint's worth of steps was lost with each such engine."""
    learner = start(settings(zero))
    manifest = learner.weight_manifest()

    def many_buckets(rank):
        from learner.distributed import weights as policy_weights
        from rollout.weights import transfer as weight_transfer

        policy_weights.BUCKET_BYTES = weight_transfer.BUCKET_BYTES = 2**16

    ray.get([rank.__ray_call__.remote(many_buckets) for rank in learner._workers])
    engine = BareEngine.options(num_cpus=0)
    with pytest.raises(EngineLostError, match="BareEngine"):
        learner.send_weights([engine.remote(manifest), engine.remote(manifest, dies=True)], whole=True)
    learner.sft_step(examples)
    engines = [engine.remote(manifest) for _ in range(2)]
    version = learner.send_weights(engines, whole=True)
    assert ray.get([engine.seen.remote() for engine in engines]) == [(len(manifest.names), version)] * 2
