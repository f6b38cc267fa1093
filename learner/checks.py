"""What an RL job refuses before it starts anything."""

from __future__ import annotations

from dataclasses import replace

from configs import UserError
from configs.schema import Config
from reward_actors.scoring.terms import terms, with_alternatives


def check_learner(config: Config) -> None:
    """Raises UserError where the settings of a training job's learner contradict each other."""
    if "offload" in config.learner.memory and not config.learner.zero:
        raise UserError(
            "learner.memory=offload: expected learner.zero=1, 2 or 3, got 0; ZeRO-0 has nothing to move to the host"
        )
    if 0 < config.learner.gpus < 1 and config.learner.ranks > 1:
        raise UserError(
            f"learner.gpus={config.learner.gpus:g} with learner.ranks={config.learner.ranks}: NCCL takes "
            "one rank a GPU; expected learner.gpus=1, or learner.ranks=1 on a share of a GPU"
        )
    if config.learner.lora and config.learner.trained in ("norms", "final_norm"):
        raise UserError(
            f"learner.lora={config.learner.lora} with learner.trained={config.learner.trained}: norms have no "
            "adapters; expected learner.trained=all or language, or learner.lora=0"
        )


def check_rl(config: Config, job: str) -> None:
    """Raises UserError where the settings of `offline` or `online` contradict each other or lack something."""
    check_learner(config)
    if config.steps < 1:
        raise UserError("steps: expected at least 1 optimiser step; set steps=200 or so")
    if config.rollout.decoding not in ("argmax", "sample"):
        raise UserError(f"{job} samples its answers: expected rollout.decoding=sample, got {config.rollout.decoding}")
    if config.policy == "random":
        raise UserError(
            f"{job} needs a warm start: expected policy=FOLDER or policy=shipped, got policy=random"
        )
    if config.profile.steps and config.reward.pool and "reward" in config.profile.roles:
        raise UserError(
            f"profile.roles=reward with reward.pool={config.reward.pool}: its actors are those of another job; "
            "expected profile.roles=[learner] or [learner,rollout]"
        )
    _check_rollouts(config, job)
    if job == "online":
        _check_online(config)
    elif config.mix:
        raise UserError("mix: only an online job mixes; expected 0 for offline, where every prompt has its truth")


def with_scores_at_hand(config: Config) -> tuple[Config, list[str]]:
    """Takes of the alternatives in `reward.scorer` what can be computed here; says what is taken in place of another.

    What a run begins with is in its config.yaml, so that `duvlm resume` goes on with the same.
    """
    if not any("|" in term for term in config.reward.scorer):
        return config, []
    scorer, notes_taken = with_alternatives(config.reward.scorer)
    return replace(config, reward=replace(config.reward, scorer=scorer)), notes_taken


def notes(config: Config) -> list[str]:
    """Says what is allowed and yet hardly meant; printed when a job starts, and by --dry-run."""
    scenes = [name for name in ("bdd100k:", "nuscenes:") if name in config.photos]
    if "celeba" in config.reward.prior and scenes:
        return [
            f"note: reward.prior={config.reward.prior} knows faces, photos={config.photos} has driving scenes; "
            "a prior of scenes restores them better (docs/priors.md)"
        ]
    return []


def _check_rollouts(config: Config, job: str) -> None:
    rollout, learner = config.rollout, config.learner
    if rollout.temperature != 1:
        raise UserError(
            f"rollout.temperature={rollout.temperature:g}: {job} samples at 1, the temperature of the log-probs "
            "that it learns from; leave it out (an evaluation with rollout.decoding=sample may have another)"
        )
    if (answers := config.grpo.prompts * rollout.group_size) < learner.ranks:
        raise UserError(
            f"grpo.prompts x rollout.group_size = {answers} answers a step for learner.ranks={learner.ranks}: expected "
            "one a rank at least; raise them, or lower learner.ranks"
        )
    if (rollout.gpus > 0) != (learner.gpus > 0):
        raise UserError(
            f"rollout.gpus={rollout.gpus:g} with learner.gpus={learner.gpus:g}: weights travel from GPU to GPU, or "
            "from CPU to CPU; give both GPUs, or neither"
        )


def _check_online(config: Config) -> None:
    if config.reward.strategy == "value":
        raise UserError("reward.strategy=value compares with the truth, which online has not: use structured")
    if lacking := [term.name for term in terms(config.reward.scorer) if term.needs_truth]:
        raise UserError(
            f"reward.scorer={','.join(lacking)} needs the clean picture, which online has not: use terms without a "
            "truth, such as consistency or niqe_local"
        )
