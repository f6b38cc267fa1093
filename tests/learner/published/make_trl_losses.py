"""Runs TRL's own GRPO loss on fixed tensors and writes trl_losses.json, which test_grpo_published.py reads.

TRL is no dependency of this project. To make the file again:

    pip install --no-deps --target FOLDER trl==1.16.0
    PYTHONPATH=FOLDER python tests/learner/published/make_trl_losses.py

`GRPOTrainer._compute_loss` runs as it is; only the model's forward pass is replaced by given log-probabilities. The
advantages and the importance ratio stand inside a method of 900 lines that also samples, so their lines are written
out here as they are there (`_generate_and_score_completions`, lines 2660 to 2704 and 2754 to 2799).
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
import trl
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import nanstd

MAX_TOKENS = 9
CASES = {  # name: (loss_type, importance_sampling_level, beta, importance mode)
    "grpo": ("grpo", "token", 0.0, None),
    "grpo_k3": ("grpo", "token", 0.3, None),
    "grpo_truncate": ("grpo", "token", 0.0, "token_truncate"),
    "grpo_mask": ("grpo", "token", 0.3, "token_mask"),
    "dr_grpo": ("dr_grpo", "token", 0.0, None),
    "dr_grpo_k3_truncate": ("dr_grpo", "token", 0.3, "token_truncate"),
    "gspo": ("grpo", "sequence", 0.0, None),
    "gspo_k3_truncate": ("grpo", "sequence", 0.3, "token_truncate"),
}
CLIP_LOW, CLIP_HIGH, CAP = 0.1, 0.25, 1.3


def tensors() -> dict[str, torch.Tensor]:
    """Two groups of three completions of at most seven tokens; ratios on both sides of every bound."""
    draw = torch.Generator().manual_seed(11)
    lengths = torch.tensor([7, 3, 5, 1, 6, 4])
    mask = (torch.arange(7) < lengths[:, None]).float()
    logprobs = -torch.rand(6, 7, generator=draw) * 3 - 0.1
    near = {n: logprobs + s * torch.randn(6, 7, generator=draw) for n, s in (("old", 0.2), ("reference", 0.4))}
    rollout = near["old"] + 0.3 * torch.randn(6, 7, generator=draw)
    rewards = torch.tensor([[-0.013, -0.021, -1.0], [-0.3, -0.1, -0.2]])
    return {"mask": mask, "logprobs": logprobs, **near, "rollout": rollout, "rewards": rewards}


def advantages(rewards: torch.Tensor, scale: bool) -> torch.Tensor:
    grouped = rewards - torch.nanmean(rewards, dim=1, keepdim=True)
    if scale:
        grouped = grouped / (nanstd(rewards, dim=1)[:, None] + 1e-4)
    return grouped.flatten()


def importance(old: torch.Tensor, rollout: torch.Tensor, mask: torch.Tensor, mode: str) -> torch.Tensor:
    weight = torch.exp((old - rollout) * mask)
    if mode == "token_truncate":
        return torch.clamp(weight, min=None, max=CAP)
    return weight.masked_fill(weight > CAP, value=0.0)


def loss(given: dict[str, torch.Tensor], name: str) -> tuple[float, list]:
    """TRL's loss and its gradient with respect to the log-probabilities."""
    kind, level, beta, mode = CASES[name]
    logprobs = given["logprobs"].clone().requires_grad_()
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, torch.zeros_like(logprobs), None),
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None,
        importance_sampling_level=level, beta=beta, loss_type=kind, epsilon_low=CLIP_LOW, epsilon_high=CLIP_HIGH,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False), use_vllm=mode is not None,
        vllm_importance_sampling_correction=True, max_completion_length=MAX_TOKENS, _entropy_bonus_enabled=False,
        model=SimpleNamespace(training=True), current_gradient_accumulation_steps=1, _metrics=_Metrics(),
        accelerator=SimpleNamespace(gather=_same, reduce=_same, num_processes=1), use_adaptive_entropy=False,
        router_aux_loss_coef=0.0,
    )  # fmt: skip
    inputs = {
        "prompt_ids": torch.zeros(6, 1, dtype=torch.int64), "prompt_mask": torch.ones(6, 1),
        "completion_ids": torch.zeros(6, 7, dtype=torch.int64), "completion_mask": given["mask"],
        "advantages": advantages(given["rewards"], kind != "dr_grpo"), "old_per_token_logps": given["old"],
        "ref_per_token_logps": given["reference"],
    }  # fmt: skip
    if mode:
        inputs["importance_sampling_ratio"] = importance(given["old"], given["rollout"], given["mask"], mode)
    value = GRPOTrainer._compute_loss(trainer, None, inputs)
    value.backward()
    return value.item(), logprobs.grad.tolist()


def _same(value: torch.Tensor, **_) -> torch.Tensor:
    """What one process gathers or reduces."""
    return value


class _Metrics(dict):
    def __missing__(self, mode: str) -> dict:
        return self.setdefault(mode, defaultdict(list))


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = tensors()
    found = {name: dict(zip(("loss", "gradient"), loss(given, name), strict=True)) for name in CASES}
    card = {
        "made_by": f"trl {trl.__version__}, torch {torch.__version__}",
        "clip_low": CLIP_LOW, "clip_high": CLIP_HIGH, "cap": CAP, "max_tokens": MAX_TOKENS, "kl": 0.3,
        "tensors": {name: value.tolist() for name, value in given.items()},
        "advantages": {
            "scaled": advantages(given["rewards"], True).tolist(),
            "not_scaled": advantages(given["rewards"], False).tolist(),
        },
        "losses": found,
    }  # fmt: skip
    Path(__file__).with_name("trl_losses.json").write_text(json.dumps(card) + "\n")
    print(json.dumps({name: value["loss"] for name, value in found.items()}, indent=1))
