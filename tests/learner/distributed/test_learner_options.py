"""Two DeepSpeed ranks under every ZeRO stage and memory setting compute the same losses, also where one rank's share is
shorter; with LoRA or a frozen vision tower too. Slow: a dozen trainers, one after the other."""

from dataclasses import replace

import pytest
import ray
import torch
from safetensors.torch import load_file

from configs.schema import Config
from learner.distributed.group import LearnerGroup
from learner.losses import Trajectory

PLAIN = {"zero": 0}
WAYS = {
    "all": [{"zero": 1, "memory": ["offload"]}, {"zero": 2}, {"zero": 3}, {"zero": 0, "memory": ["checkpointing"]}],
    "lora": [{"zero": 2, "memory": ["offload"]}, {"zero": 3, "memory": ["checkpointing", "offload"]}],
    "language": [{"zero": 2, "memory": ["checkpointing"]}, {"zero": 3}],
    "norms": [{"zero": 2}, {"zero": 3}],
    "final_norm": [{"zero": 2}, {"zero": 3}],
}
TRAINED = {"all": {}, "lora": {"lora": 4}} | {name: {"trained": name} for name in ("language", "norms", "final_norm")}


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_losses_and_weights_are_those_of_plain_training(ray_cluster, policy_folder, examples, tmp_path):
    config = Config()
    config.world.size, config.learner.warmup, config.grpo.kl = 64, 2, 0.1
    learner = LearnerGroup(config, policy_folder, 8)
    shares = [examples[:6], examples[6:7]]  # three passes and one
    judged = [[Trajectory(e, (-7.0,) * len(e.completion), i - 2.5) for i, e in enumerate(share)] for share in shares]

    def train(actor, settings, together, shares, judged, folder, reference):
        from pathlib import Path

        from learner.distributed.trainer import Trainer

        torch.manual_seed(0)
        trainer = Trainer(Path(reference), settings, 8, Path(reference))
        lengths = [trainer.collate.length(example) for share in shares for example in share]
        longest = max(length.prompt + length.completion for length in lengths)
        settings.learner.micro_tokens = together * longest
        passes = [0]
        layer = trainer.model.model.language_model.layers[0]
        layer.register_forward_pre_hook(lambda *_: passes.__setitem__(0, passes[0] + 1))
        losses = [trainer.sft_step(shares[trainer.rank])["loss"] for _ in range(2)]
        seen = passes[0]
        steps = [trainer.grpo_step(judged[trainer.rank]) for _ in range(2)]
        losses += [step[name] for step in steps for name in ("loss", "policy_kl")]
        trainer.save_policy(Path(folder))
        return losses, seen

    def run(name, number, **settings):
        together = 2 if number else 8  # sequences a pass: it changes nothing
        wanted = replace(config, learner=replace(config.learner, **settings))
        folder = tmp_path / f"{name}-{number}"
        asked = (wanted, together, shares, judged, str(folder), str(policy_folder))
        found = ray.get([rank.__ray_call__.remote(train, *asked) for rank in learner._workers])
        assert found[0] == found[1]  # losses are of both, and so is the number of passes
        return *found[0], load_file(folder / "model.safetensors")

    try:
        begun = load_file(policy_folder / "model.safetensors")
        for name, ways in WAYS.items():
            losses, _, weights = run(name, 0, **PLAIN, **TRAINED[name])
            assert losses[-1] > 1e-6  # away from the reference
            changed = {key for key in begun if not torch.equal(weights[key], begun[key])}
            assert any("visual" in key for key in changed) is (name in ("all", "lora"))
            assert all("norm" in key for key in changed) is (name in ("norms", "final_norm"))
            assert any("norm" in key for key in changed) is (name != "lora")
            for number, way in enumerate(ways, 1):
                found, passes, there = run(name, number, **way, **TRAINED[name])
                assert found == pytest.approx(losses, rel=1e-3, abs=1e-5), way
                assert passes == 2 * 3 * (2 if "checkpointing" in way.get("memory", []) else 1)
                assert there.keys() == weights.keys()
                assert {key for key in begun if not torch.equal(there[key], begun[key])} == changed
    finally:
        learner.close()
