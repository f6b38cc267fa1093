"""Our loss against the numbers of TRL's own code on the same tensors (published/make_trl_losses.py made them)."""

import json
from pathlib import Path

import pytest
import torch

from configs.schema import Grpo
from learner import losses as grpo

FOUND = json.loads((Path(__file__).parent / "published" / "trl_losses.json").read_text())
GIVEN = {name: torch.tensor(value) for name, value in FOUND["tensors"].items()}


def settings(name: str) -> Grpo:
    """What the name of a case stands for: LOSS, then k3 and the importance mode where they are on."""
    loss = next(loss for loss in ("dr_grpo", "gspo", "grpo") if name.startswith(loss))
    importance = next((mode for mode in ("truncate", "mask") if name.endswith(mode)), "off")
    return Grpo(loss=loss, importance=importance, kl=FOUND["kl"], clip=[FOUND["clip_low"], FOUND["clip_high"]])


def with_kl(name: str) -> bool:
    return "k3" in name or name == "grpo_mask"


@pytest.mark.parametrize("name", FOUND["losses"])
def test_loss_and_gradient_are_those_of_trl(name, monkeypatch):
    monkeypatch.setattr(grpo, "CAP", FOUND["cap"])
    config, published = settings(name), FOUND["losses"][name]
    logprobs = GIVEN["logprobs"].clone().requires_grad_()
    advantages = torch.tensor(FOUND["advantages"]["not_scaled" if config.loss == "dr_grpo" else "scaled"])
    reference = GIVEN["reference"] if with_kl(name) else None
    losses, _ = grpo.token_losses(
        logprobs, GIVEN["old"], GIVEN["rollout"], reference, advantages, GIVEN["mask"], config
    )
    loss = grpo.summed_loss(losses, GIVEN["mask"], config.loss, FOUND["max_tokens"]) / len(advantages)
    loss.backward()
    assert loss.item() == pytest.approx(published["loss"], rel=1e-6, abs=1e-7)
    assert torch.allclose(logprobs.grad, torch.tensor(published["gradient"]), rtol=1e-5, atol=1e-7)


def test_the_cases_differ_and_reach_every_bound():
    """Otherwise agreeing with them would say little."""
    losses = [case["loss"] for case in FOUND["losses"].values()]
    assert len({round(loss, 5) for loss in losses}) == len(losses)
    inside = GIVEN["mask"].bool()
    ratio = (GIVEN["logprobs"] - GIVEN["old"]).exp()[inside]
    assert (ratio < 1 - FOUND["clip_low"]).any()
    assert (ratio > 1 + FOUND["clip_high"]).any()
    assert ((GIVEN["old"] - GIVEN["rollout"]).exp()[inside] > FOUND["cap"]).any()


def test_advantages_are_those_of_trl_but_for_what_it_adds_to_the_spread():
    rewards = GIVEN["rewards"]
    everybody = torch.ones_like(rewards, dtype=torch.bool)
    plain = grpo.group_advantages(rewards, everybody, scale_by_spread=False).flatten()
    assert torch.allclose(plain, torch.tensor(FOUND["advantages"]["not_scaled"]))
    spread = rewards.std(1, keepdim=True)
    ours = grpo.group_advantages(rewards, everybody) * spread / (spread + 1e-4)
    assert torch.allclose(ours.flatten(), torch.tensor(FOUND["advantages"]["scaled"]), rtol=1e-5)
