"""What a learner rank holds in memory, and what all roles of a job do: printed by --dry-run, checked before a start.

Formulas of the architecture and of DeepSpeed's ZeRO; tests compare them with what a small faithful model takes. What
is assumed and not derived says so.
"""

from __future__ import annotations

from configs.cluster.memory import GB, Need, Part
from configs.cluster.resources import learner_ranks, plan
from configs.schema import Config
from reward_actors.memory import actor_need
from rollout.memory import CONTEXT, PROCESS, engine_need, shape_of
from rollout.policy_shape import PolicyShape

MAX_LOGITS = 2**25
"""As in `learner.policy.model`, which imports torch."""
LOGIT_COPIES = 4, 3
"""Of the logits of a piece: with what log-probabilities and entropy make of them, and with their gradient."""
LIVE, GROUP = 1e9, 1e9
"""Elements of weights that ZeRO-3 keeps gathered, and that it updates at once: DeepSpeed's defaults."""
NCCL = 1 * GB
"""Buffers of the collectives among ranks and to the engines; assumed."""


def needs(config: Config, job: str) -> tuple[Need, ...]:
    """Lists what each role of `job` holds; engines and ranks of a policy that is not here yet are left out."""
    shape = shape_of(config)
    listed = []
    for role in plan(config, job).roles:
        if role.name == "reward actor":
            listed.append(actor_need(config))
        elif shape and role.name == "rollout engine":
            listed.append(engine_need(config, shape))
        elif shape and role.name == "learner rank":
            listed.append(rank_need(config, shape, job))
    return tuple(listed)


def rank_need(config: Config, shape: PolicyShape, job: str) -> Need:
    """States what one learner rank holds while it learns, at its peak.

    The longest forward pass has `learner.micro_tokens` tokens, or one example's where that is longer.
    """
    learner = config.learner
    gpu = learner.gpus > 0
    prompt = shape.prompt(config.world.size, len(config.world.views))
    tokens = max(learner.micro_tokens, prompt + config.rollout.max_tokens)
    length = 0 if job == "sft" else min(tokens, prompt + config.rollout.group_size * config.rollout.max_tokens)
    pictures = max(1, tokens // shape.prompt(config.world.size, len(config.world.views), text=20))
    patches = pictures * len(config.world.views) * shape.patches(config.world.size)
    state = [*held(config, shape, kl=job != "sft" and config.grpo.kl > 0)]
    passing = while_passing(config, shape, tokens, length, patches, tokens)
    stepping = while_stepping(config, shape)
    peak = max(passing, stepping, key=lambda parts: sum(part.bytes for part in parts))
    policy = Part("the whole policy, while it is saved", width(config) * shape.parameters, shape.name)
    state_host = [part for part in state if part.what.startswith("optimiser") and "offload" in learner.memory]
    share = [part for part in state if "master" in part.what or "moments" in part.what]
    hint = (
        "more learner.ranks with learner.zero=3, fewer learner.micro_tokens, learner.memory=[checkpointing] or "
        "[offload], grpo.kl=0 or learner.lora=16 make it smaller"
    )
    if not gpu:
        process = Part("process", PROCESS, "libraries; assumed")
        return Need(learner_ranks(config), (), (process, *state, *peak), (policy,), hint)
    device = [part for part in state if part not in state_host]
    extra = [CONTEXT, Part("NCCL", NCCL, "buffers of collectives; assumed")]
    copies = [Part("its share, while it is saved", sum(part.bytes for part in share), "master weights and moments")]
    host = [Part("process", 3 * PROCESS, "libraries and CUDA; assumed"), *(state_host or copies)]
    return Need(learner_ranks(config), (*device, *peak, *extra), tuple(host), (policy,), hint)


def width(config: Config) -> int:
    """Bytes of a weight of policy and reference (`learner.distributed.deepspeed.parameter_dtype`)."""
    return 2 if config.learner.gpus > 0 and config.learner.dtype == "bfloat16" else 4


def trained_parameters(config: Config, shape: PolicyShape) -> int:
    """Counts the parameters that training changes, or those of the adapters."""
    learner = config.learner
    if learner.lora:
        text = 4 * shape.hidden + 2 * shape.queries + 2 * shape.keys + 3 * (shape.hidden + shape.intermediate)
        vision = 6 * shape.vision_hidden + 2 * (shape.vision_hidden + shape.vision_intermediate)
        tables = 0 if shape.tied else 2 * (shape.vocabulary + shape.hidden)
        towers = shape.layers * text + (learner.trained == "all") * shape.vision_depth * vision
        return learner.lora * (towers + tables)
    return {
        "all": shape.parameters,
        "language": shape.text_parameters,
        "norms": shape.layers * (2 * shape.hidden + 2 * shape.head) + shape.hidden,
        "final_norm": shape.hidden,
    }[learner.trained]


def held(config: Config, shape: PolicyShape, kl: bool) -> list[Part]:
    """Lists what a rank holds all the time."""
    learner, size, trained = config.learner, width(config), trained_parameters(config, shape)
    count, of = shape.parameters, f"{shape.parameters / GB:.3f} G"
    ranks = {stage: learner.ranks if learner.zero >= stage else 1 for stage in (1, 2, 3)}
    master = 4 if learner.zero or size == 2 else 0  # without ZeRO float32 weights are their own masters
    what = f"{trained / GB:.3f} G trained"
    parts = [
        Part("weights", size * count / ranks[3], f"{size} x {of} / {ranks[3]}"),
        Part("gradients", 4 * trained / ranks[2], f"4 x {what} / {ranks[2]}, they add up in float32"),
        Part("optimiser: master weights", master * trained / ranks[1], f"{master} x {what} / {ranks[1]}"),
        Part("optimiser: moments", 8 * trained / ranks[1], f"8 x {what} / {ranks[1]}"),
    ]
    if kl and not learner.lora:
        parts.append(Part("reference", size * count, f"{size} x {of}, whole on every rank (grpo.kl)"))
    return [part for part in parts if part.bytes]


def while_passing(
    config: Config, shape: PolicyShape, tokens: int, length: int, patches: int, answers: int
) -> list[Part]:
    """Lists what the largest forward and backward pass takes beside.

    Args:
        tokens: of the pass, in rows of `length` (0: one answer each, no mask).
        patches: of all pictures. answers: completion tokens.
    """
    learner, size = config.learner, width(config)
    token, patch = shape.text_activations(length, size), shape.vision_activations(size)
    twice = "checkpointing" in learner.memory
    if twice:
        token, patch = shape.checkpointed(length, size)
    if learner.trained == "final_norm" and not learner.lora:
        token = 12 * shape.hidden  # nothing below the last norm is needed again
        patch = 0
    elif learner.trained != "all":
        patch = 0
    head = learner.trained in ("all", "language")
    kept = " computed twice" if twice else ""
    rows = min(answers, max(1, MAX_LOGITS // shape.vocabulary))
    forward, backward = (4 * copies * rows * shape.vocabulary for copies in LOGIT_COPIES)
    gradient = 2 * size * shape.table if head and not learner.lora else 0  # of a piece, and their sum
    parts = [
        Part("activations of text", tokens * token, f"{tokens} tokens x {token / 1e3:.0f} kB{kept}"),
        Part("activations of pictures", patches * patch, f"{patches} patches x {patch / 1e3:.0f} kB{kept}"),
        Part("logits", forward, f"{LOGIT_COPIES[0]} x 4 x {rows} x {shape.vocabulary}"),
    ]
    if backward + gradient > forward:
        parts[-1] = Part("logits", backward, f"{LOGIT_COPIES[1]} x 4 x {rows} x {shape.vocabulary}")
        parts.append(Part("gradient of the head", gradient, f"2 x {size} x {shape.table / GB:.3f} G"))
    if learner.zero == 3:
        live = min(LIVE, shape.parameters)
        parts.append(Part("gathered weights", size * live, f"{size} x {live / GB:.3f} G (DeepSpeed's limit)"))
        bucket = max(1_000_000, min(shape.parameters + 1024, 50_000_000))
        parts.append(Part("bucket", size * bucket, f"{size} x {bucket / 1e6:.0f} M"))
    return [part for part in parts if part.bytes]


def while_stepping(config: Config, shape: PolicyShape) -> list[Part]:
    """Lists what the optimiser's step takes beside: gradients laid out flat, which up to ZeRO-2 take the place of those
    that were held, and on CPUs, where AdamW is not fused, its copies."""
    learner = config.learner
    share = trained_parameters(config, shape) / (learner.ranks if learner.zero else 1)
    group = min(share, GROUP) if learner.zero == 3 else share
    largest = group if learner.zero else min(group, shape.table)
    flat = Part("gradients, flat", 4 * group * bool(learner.zero), f"4 x {group / GB:.3f} G (one group)")
    copies = Part("copies of AdamW", 0 if learner.gpus else 8 * largest, f"8 x {largest / GB:.3f} G")
    parts = [flat, copies] if learner.zero == 3 else [max(flat, copies, key=lambda part: part.bytes)]
    return [part for part in parts if part.bytes]
