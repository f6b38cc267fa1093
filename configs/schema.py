"""Declares every setting: its type, default, range and a sentence of help. Importable without torch.

One `Config` serves all jobs. OmegaConf merges and types it (`configs.load`); ranges are in the fields' metadata.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from configs import plugins

RESTORERS = ("ddnm", "ddnm_plus", "fast", "few", "average", "hqs", "twice", "once", "tv", "closed_form")
if TYPE_CHECKING:
    RestorerName = str
else:
    RestorerName = Literal[(*RESTORERS, *plugins.names(plugins.RESTORERS))]
ALIASES: dict[str, str] = {"predictions": "policy"}
"""Other names of settings, understood too: {name: key}; a setting that is gone maps to an empty text."""


def _(default: Any, help: str, low: float | None = None, high: float | None = None) -> Any:
    """Declares a setting with its default, its help, and for numbers the smallest and largest value."""
    metadata = {"help": help, "low": low, "high": high}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class World:
    size: int = _(128, "Working resolution of policy and prior, pixels a side.", 32, 1024)
    camera: bool = _(False, "Low light has its 3x3 camera matrix as a key.")
    transmission_grid: int = _(1, "Transmission is a g x g grid; 1 is a scalar.", 1, 8)
    composites: int = _(1, "Degradations at once, at most.", 1, 3)
    depth: Literal["none", "file", "procedural"] = _(
        "none", "Where haze gets depth: nowhere (even haze), a file beside each photo, or drawn."
    )
    step_scale: float = _(1.0, "Multiplies every non-integer grid step (Figure 7).", 0.1, 100)
    views: list[Literal["image", "fft", "edge", "log", "statistics"]] = _(
        ["image", "fft", "edge", "log"], "Views the policy sees."
    )
    rationale: bool = _(True, "Answers begin with words: see `rationale_style`.")
    rationale_style: Literal["severity", "evidence"] = _(
        "severity", "The words that answers begin with: how severe it is, or what spectrum, edges and levels show."
    )
    severity: Literal["key", "law"] = _(
        "key", "Severity in words: by fixed thresholds of a key, or by thirds of what is drawn, at every size."
    )
    types: list[str] = _(
        ["haze", "low_light", "blur", "low_resolution"],
        "Degradations there are; `none` among them where a picture may have none.",
    )
    nuisances: bool = _(False, "Samples have slight noise, JPEG and shifts of exposure that no answer names.")


WORLDS: dict[str, dict[str, Any]] = {
    "paper": {
        "types": World().types,
        "composites": 1,
        "nuisances": False,
        "depth": "none",
        "views": World().views,
        "rationale": True,
    },
    "open": {
        "types": [*World().types, "motion_blur", "noise", "jpeg", "none"],
        "composites": 3,
        "nuisances": True,
        "depth": "procedural",
        "views": ["image", "statistics"],
        "rationale": False,
    },
}
"""What `world=NAME` sets of `world.*`: the world of the paper, or that of photographs as cameras make them."""


@dataclass
class Rollout:
    actors: int = _(1, "vLLM engines, one per Ray actor.", 1, 1024)
    cpus: float = _(0.5, "CPUs an engine reserves of the cluster.", 0, 1024)
    gpus: float = _(0.0, "GPUs per engine, which it is spread over; a fraction shares one; 0 is the CPU.", 0, 64)
    group_size: int = _(8, "Completions sampled per prompt (G).", 2, 1024)
    temperature: float = _(1.0, "Sampling temperature of rollouts.", 0.0, 2.0)
    decoding: Literal["argmax", "median", "mean", "sample"] = _(
        "argmax", "How evaluation and restoration choose an answer; `sample` draws it as a rollout does."
    )
    grammar: bool = _(False, "Evaluation and restoration admit well-formed answers only.")
    max_tokens: int = _(64, "Longest completion, tokens.", 8, 4096)
    kv_cache_gb: float = _(0.5, "KV cache of an engine, GiB (of each of its GPUs).", 0.05, 1024)
    in_flight: int = _(8, "Prompts in flight per engine, at most.", 1, 4096)
    timeout: float = _(
        300.0, "Seconds one group or one weight update may take before its engine counts as dead.", 1, 86400
    )
    start_timeout: float = _(
        0.0, "Seconds an engine may take to start; 0: five minutes, and more for a large policy.", 0, 86400
    )


@dataclass
class Reward:
    actors: int = _(2, "Reward actors at start.", 1, 4096)
    max_actors: int = _(0, "Reward actors at most, as the load needs; 0 keeps the number at start.", 0, 4096)
    cpus: float = _(0.25, "CPUs a reward actor reserves of the cluster.", 0, 1024)
    gpus: float = _(0.0, "GPUs per reward actor, fractions allowed.", 0, 1)
    restorer: RestorerName = _("fast", "How a picture is restored.")
    noise: Literal["rounding", "estimated"] = _(
        "rounding", "Noise that degraded pictures are taken to have: that of 8 bits, or what each of them shows."
    )
    prior: str = _("shipped", "`shipped`, `gaussian`, a UNet2DModel of diffusers, folder or Hub name, or an ADM file.")
    steps: int = _(0, "Denoiser steps; 0 is the restorer's own number.", 0, 1000)
    batch: int = _(16, "Rows that step together in one actor.", 1, 1024)
    scorer: list[str] = _(
        ["mse"], "What a restoration is worth: terms NAME, NAME:WEIGHT or NAME:WEIGHT@FILE, see docs/scorers.md."
    )
    dtype: Literal["float32", "bfloat16", "float16"] = _("float32", "Precision of the prior's network.")
    strategy: Literal["structured", "naive", "value"] = _("structured", "What earns a reward: see docs/learning.md.")
    pool: str = _("", "Name of a running `rewards` job whose actors are used instead of own ones; empty: own ones.")
    timeout: float = _(120.0, "Seconds without a step after which a reward actor counts as dead.", 1, 86400)


@dataclass
class Learner:
    ranks: int = _(2, "DeepSpeed ranks, one Ray actor each.", 1, 4096)
    cpus: float = _(0.25, "CPUs a rank reserves of the cluster.", 0, 1024)
    gpus: float = _(0.0, "GPUs per rank.", 0, 1)
    zero: int = _(2, "DeepSpeed ZeRO stage.", 0, 3)
    dtype: Literal["float32", "bfloat16"] = _("float32", "Training precision.")
    lr: float = _(1e-3, "Peak learning rate (AdamW).", 0, 1)
    warmup: int = _(50, "Steps of linear warm-up.", 0, 1_000_000)
    batch: int = _(32, "SFT samples per optimiser step, all ranks together.", 1, 65536)
    micro_tokens: int = _(
        1792, "Tokens a rank's forward pass has, at most: sequences times the longest, pictures too.", 1, 100_000_000
    )
    lora: int = _(0, "Rank of LoRA adapters, trained in place of the weights; 0 trains the weights.", 0, 1024)
    trained: Literal["all", "language", "norms", "final_norm"] = _(
        "all", "Weights that are trained: all; all but the vision tower; the language model's norms; its final norm."
    )
    decay: Literal["all", "matrices"] = _(
        "all", "What the weight decay pulls at: every weight, or matrices alone (neither gains of norms nor biases)."
    )
    memory: list[Literal["checkpointing", "offload"]] = _(
        [], "What saves GPU memory: activations are computed twice; the optimiser is on the host."
    )
    smooth: float = _(
        0.0,
        "Ordinal targets: width of the Gaussian over neighbouring value bins, in bins; 0 is plain.",
        0,
        100,
    )
    ahead: bool = _(False, "SFT draws the samples of the next steps in a process of their own, beside each rank.")
    refresh: bool = _(False, "SFT degrades a varied clean image anew each epoch, with values drawn anew.")
    checkpoint_every: int = _(100, "Optimiser steps between checkpoints.", 1, 1_000_000)
    patience: int = _(
        0, "SFT stops after so many validations without a better P-Rel, and keeps the best policy; 0 never.", 0, 10_000
    )


@dataclass
class Grpo:
    prompts: int = _(8, "Prompts per optimiser step.", 1, 65536)
    max_staleness: int = _(1, "Steps by which sampling weights may lag; 0 is strictly on-policy.", 0, 16)
    estimator: Literal["plain", "fitted"] = _(
        "plain", "What a value token learns from: the answer's own reward, or a curve fitted to its group's."
    )
    loss: Literal["grpo", "dr_grpo", "gspo"] = _("grpo", "Advantages, ratio and average: see docs/learning.md.")
    clip: list[float] = _([0.2, 0.2], "The probability ratio r counts within 1 - clip[0] .. 1 + clip[1].", 0, 10)
    kl: float = _(0.01, "Weight of the KL to the warm start.", 0, 100)
    kl_estimator: Literal["k1", "k2", "k3"] = _("k3", "How the KL is estimated from a sampled token.")
    importance: Literal["off", "truncate", "mask"] = _(
        "truncate", "What a learner/rollout weight above its cap becomes."
    )
    refill: int = _(0, "Groups a step whose rewards are all equal, at most, that other prompts replace.", 0, 65536)
    epochs: int = _(1, "Optimiser passes over one batch of groups.", 1, 100)


@dataclass
class Restore:
    confidence: float = _(
        0.9, "A photograph is left as it is where the type that was read is less probable than this.", 0, 1
    )
    gain: float = _(
        0.0,
        "It is left where restoring is not expected to lower the mean squared error, on [0, 1], by more than this.",
        -1,
        1,
    )


@dataclass
class Depth:
    actors: int = _(1, "Networks that estimate depth at once, one per Ray actor.", 1, 1024)
    cpus: float = _(1.0, "CPUs an actor reserves of the cluster.", 0, 1024)
    gpus: float = _(0.0, "GPUs per actor, fractions allowed.", 0, 1)
    gives: Literal["auto", "depth", "disparity"] = _(
        "auto", "What the network's numbers are; `auto` goes by its architecture."
    )
    lidar: bool = _(True, "nuScenes: depth is what its LiDAR measured, where there is a sweep.")


@dataclass
class Profile:
    steps: list[int] = _(
        [], "Steps, counted from 1, of which torch's profiler writes traces to OUT/profile, as in [3].", 1, 100_000_000
    )
    roles: list[Literal["learner", "reward", "rollout"]] = _(
        ["learner", "reward"], "Roles that are traced; `rollout` by vLLM's own profiler."
    )


@dataclass
class Config:
    name: str = _("", "Name of the run; its folder is runs/NAME.")
    out: str = _("", "Output folder, instead of runs/NAME/JOB.")
    seed: int = _(0, "Seed of everything random.", 0, 2**31 - 1)
    steps: int = _(
        0, "Optimiser steps of a training job; 0 is the track's number for the job.", 0, 100_000_000
    )
    epochs: float = _(0.0, "Passes of SFT over the corpus, where steps is 0.", 0, 100_000)
    resume: bool = _(True, "Continue from the newest checkpoint in the run's folder, if there is one.")
    trackers: list[Literal["wandb", "mlflow"]] = _(
        [], "Trackers beside metrics.jsonl and TensorBoard, as in [wandb,mlflow]."
    )
    max_failures: int = _(
        0, "Times a training job that broke starts again by itself, from its newest checkpoint.", 0, 1000
    )
    device_gb: float = _(
        0.0, "Memory of each GPU, GB: a job that needs more is refused before it starts; 0 checks nothing.", 0, 10_000
    )
    environment: list[str] = _([], "Environment variables of every actor, as in [NCCL_SOCKET_IFNAME=eth0].")
    photos: str = _(
        "bundled",
        "Folder of photographs (train/, val/ and test/ inside are honoured), celeba:DIR, bdd100k:DIR, nuscenes:DIR or "
        "`bundled`; several with commas, each with its share of the samples after @, as in celeba:A@2,bdd100k:B@1.",
    )
    enlarge: bool = _(False, "Pictures smaller than the corpus are enlarged to it; those of CelebA always are.")
    count: int = _(2000, "Samples in the corpus.", 1, 100_000_000)
    size: int = _(0, "Pixels a side of corpus images; 0 is world.size.", 0, 1024)
    model: str = _("", "Network that estimates depth: a folder, or its name on the Hugging Face Hub.")
    reviews: str = _("", "File of accepted and rejected samples that the corpus build honours; several with commas.")
    corpus: str = _("", "Folder of a corpus.")
    probe: str = _("", "Folder of a corpus that an RL job is measured on and never learns from.")
    mix: float = _(0.0, "Share of an online job's prompts that come from corpus= with their truth.", 0, 1)
    split: Literal["train", "val", "test"] = _("test", "Split to evaluate.")
    limit: int = _(0, "Samples evaluated, at most; 0 is all.", 0, 100_000_000)
    policy: str = _(
        "shipped",
        "Folder of the policy or its name on the Hub (OWNER/NAME@REVISION), `shipped`, `random` (SFT from scratch), "
        "FILE.jsonl of answers to evaluate, or the model that endpoint= is asked for.",
    )
    endpoint: str = _("", "OpenAI-compatible endpoint to evaluate, as in http://HOST/v1; policy= names its model.")
    before: str = _("", "Policy, folder or Hub name, that an evaluation compares with.")
    restored: str = _(
        "", "Pictures of other methods to evaluate beside ours: NAME:FOLDER with SAMPLE_ID.png; several with commas."
    )
    nuisances: bool = _(False, "Evaluate the samples again with noise, JPEG and more that no answer names.")
    scores: str = _("", "Folders of finished evaluations to compare: DIR or NAME:DIR, two or more, with commas.")
    study: Literal["", "table4", "table5", "figure7", "rationale", "iqa"] = _("", "What `ablate` draws again.")
    image: str = _("", "Photograph to restore or degrade, or a folder of them to restore.")
    degradation: str = _("", "JSON of the degradation to undo; empty asks the policy.")
    force: bool = _(False, "Restore what was read, however uncertain it is.")
    world: World = field(default_factory=World)
    rollout: Rollout = field(default_factory=Rollout)
    reward: Reward = field(default_factory=Reward)
    learner: Learner = field(default_factory=Learner)
    grpo: Grpo = field(default_factory=Grpo)
    depth: Depth = field(default_factory=Depth)
    restore: Restore = field(default_factory=Restore)
    profile: Profile = field(default_factory=Profile)
