"""A trainer takes SFT and RL steps with models of other families, and saves them so that they open again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from backbones import BACKBONES
from safetensors.torch import load_file

from configs import UserError
from configs.schema import Config, World
from envs.taxonomy import TAXONOMY
from learner.losses import Trajectory
from learner.policy.collator import Example
from learner.policy.initial import adopt

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture(scope="module", params=BACKBONES)
def folder(request, tmp_path_factory) -> Path:
    plain = BACKBONES[request.param](tmp_path_factory.mktemp("plain"))
    return adopt(plain, tmp_path_factory.mktemp("adopted"), World(size=64))


def stored_by_their_names(folder) -> bool:
    from learner.policy.model import load_policy

    names = {name for name, _ in load_policy(folder)[0].named_parameters()}
    return names <= set(load_file(folder / "model.safetensors"))


@pytest.mark.parametrize("way", [{"zero": 2}, {"zero": 3}, {"zero": 2, "lora": 2}], ids=str)
def test_it_learns_and_opens_again(folder, way, photo, tmp_path):
    from learner.distributed.trainer import Trainer

    config = Config()
    config.world.size, config.learner.ranks, config.learner.warmup, config.learner.lr = 64, 1, 0, 3e-3
    config.grpo.kl = 0.1
    for name, value in way.items():
        setattr(config.learner, name, value)
    if way["zero"] == 3 and not stored_by_their_names(folder):
        with pytest.raises(UserError, match="set learner.zero=2"):
            Trainer(folder, config, 8, folder)
        return
    actor = Trainer(folder, config, 8, folder)
    truths = [("blur", {"sigma": 2.5}), ("haze", {"atmospheric_light": 0.8, "transmission": 0.4})]
    picture = np.ascontiguousarray(photo[:64, :64])
    examples = [Example(picture, actor.language.completion(TAXONOMY.degradation(*truth))) for truth in truths]
    losses = [actor.sft_step(examples)["loss"] for _ in range(3)]
    assert losses[-1] < losses[0]
    sampled = actor.logprobs(examples)
    judged = [Trajectory(e, tuple(p), 1.0 - 2 * i) for i, (e, p) in enumerate(zip(examples, sampled, strict=True))]
    metrics = actor.grpo_step(judged)
    assert metrics["mismatch"] < 1e-4
    assert metrics["skipped"] == 0
    after = actor.logprobs(examples)
    actor.save_policy(tmp_path / "policy")
    if way["zero"] == 3 or way.get("lora"):  # opened as any other policy
        config.learner.zero, config.learner.lora = 2, 0
    again = Trainer(tmp_path / "policy", config, 8)
    for row, found in zip(again.logprobs(examples), after, strict=True):
        assert row == pytest.approx(found, abs=1e-4)
    assert set(load_file(tmp_path / "policy" / "model.safetensors")) == set(load_file(folder / "model.safetensors"))
    assert {name for name, _ in again.named_tensors()} == set(load_file(folder / "model.safetensors"))
