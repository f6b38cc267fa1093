"""The share of the peak that a rank reaches, of operations that are estimated."""

import pytest
from torch.utils.flop_counter import FlopCounterMode

from configs.schema import Config
from learner.losses import Trajectory

pytestmark = pytest.mark.usefixtures("alone")
WAYS = [{"zero": 0}, {"zero": 2, "trained": "final_norm"}, {"zero": 3, "memory": ["checkpointing"]}, {"lora": 4}]


@pytest.fixture
def build(policy_folder, monkeypatch):
    from learner.distributed import utilization
    from learner.distributed.trainer import Trainer

    monkeypatch.setattr(utilization, "peak", lambda *_: 1.0)

    def build(**way):
        config = Config()
        config.world.size, config.learner.ranks, config.learner.warmup, config.grpo.kl = 64, 1, 0, 0.1
        for name, value in way.items():
            setattr(config.learner, name, value)
        trainer = Trainer(policy_folder, config, 8, policy_folder)
        return trainer, utilization.Utilization(trainer.engine.module, trainer.device, None)

    return build


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_operations_of_a_step_are_estimated_at_half_to_twice_those_that_pytorch_counts(build, examples, way):
    trainer, utilization = build(**way)
    judged = [Trajectory(e, (-7.0,) * len(e.completion), (-1.0) ** i) for i, e in enumerate(examples)]
    with FlopCounterMode(display=False) as counter:
        metrics = utilization.of(trainer.grpo_step, judged)
    assert 0.5 < metrics["mfu"] * metrics["seconds"] / counter.get_total_flops() < 2


def test_a_step_that_is_not_taken_has_no_operations(build, examples):
    trainer, utilization = build()
    flat = [Trajectory(e, (-7.0,) * len(e.completion), 0.0) for e in examples[:2]]
    assert utilization.of(trainer.grpo_step, flat)["mfu"] == 0
    assert utilization.of(trainer.sft_step, examples)["mfu"] > 0
