"""The chain of the 8B track on a faithful cut of the published model: adoption, SFT, RL, saved and opened again.

Slow: tables of 151,936 rows, trained.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from qwen3vl_cut import build_cut
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from configs.schema import Config, World
from envs.degradations import sample
from envs.language.answer import answer_tokens
from envs.world import world_taxonomy
from learner.losses import Trajectory
from learner.policy.collator import Example
from learner.policy.initial import adopt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.usefixtures("alone")]
WORLD = World(size=64, views=["image", "fft"])


@pytest.fixture(scope="module", params=["untied", "tied"])
def models(request, tmp_path_factory):
    """(the published model's cut, the same adopted)"""
    folder = tmp_path_factory.mktemp(request.param)
    plain = build_cut(folder / "plain", tied=request.param == "tied")
    return plain, adopt(plain, folder / "adopted", WORLD)


@pytest.fixture
def examples(models, photo):
    from learner.policy.targets import AnswerLanguage

    taxonomy, rng = world_taxonomy(WORLD), np.random.default_rng(0)
    language = AnswerLanguage(AutoProcessor.from_pretrained(models[1]).tokenizer, taxonomy)
    crops = [np.ascontiguousarray(photo[20 * i : 20 * i + 64, :64]) for i in range(2)]
    return [
        Example(crop, language.completion(sample(taxonomy, kind.name, rng, 64)))
        for crop, kind in zip(crops, taxonomy.types, strict=False)
    ]


def test_adoption_reaches_every_answer_token_keeps_old_rows_and_ties(models):
    before, after = (Qwen3VLForConditionalGeneration.from_pretrained(folder) for folder in models)
    known = len(AutoProcessor.from_pretrained(models[0]).tokenizer)
    tokenizer = AutoProcessor.from_pretrained(models[1]).tokenizer
    words = [token for token in answer_tokens(world_taxonomy(WORLD)) if not token.startswith("[V-")]
    ids = tokenizer.convert_tokens_to_ids(words)
    for table in ("get_input_embeddings", "get_output_embeddings"):
        old, new = (getattr(model, table)().weight for model in (before, after))
        assert len(new) == len(old)
        assert torch.equal(old[:known], new[:known])
        assert torch.allclose(new[ids], old[:known].mean(0).expand(len(ids), -1), atol=1e-6)
    tied = before.config.tie_word_embeddings
    assert (after.get_input_embeddings().weight is after.get_output_embeddings().weight) is tied


WAYS = [
    {"zero": 2},
    {"zero": 3},
    {"zero": 3, "memory": ["checkpointing", "offload"], "decay": "matrices"},
    {"zero": 2, "lora": 4},
    {"zero": 3, "lora": 4, "trained": "language"},
    {"zero": 2, "dtype": "bfloat16"},
    {"zero": 3, "dtype": "bfloat16", "decay": "matrices"},
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way.values())))
def test_it_learns_in_every_way_and_is_opened_as_it_was_saved(models, examples, tmp_path, monkeypatch, way):
    """bfloat16 is that of weights here, as on a GPU: gradients and optimiser in float32 beside."""
    from learner.distributed import deepspeed, trainer
    from learner.distributed.state import load_checkpoint, save_checkpoint

    half = way.get("dtype") == "bfloat16"
    for module in (deepspeed, trainer):
        chosen = torch.bfloat16 if half else torch.float32
        monkeypatch.setattr(module, "parameter_dtype", lambda learner, on_gpu, chosen=chosen: chosen)
    config = Config()
    config.world, config.learner.ranks, config.learner.warmup, config.learner.lr = WORLD, 1, 0, 1e-3
    config.grpo.kl = 0.1
    for name, value in way.items():
        setattr(config.learner, name, value)
    folder = Path(models[1])
    actor = trainer.Trainer(folder, config, 8, folder)
    losses = [actor.sft_step(examples)["loss"] for _ in range(3)]
    assert losses[-1] < losses[0]
    sampled = actor.logprobs(examples)
    judged = [Trajectory(e, tuple(p), 1.0 - 2 * i) for i, (e, p) in enumerate(zip(examples, sampled, strict=True))]
    metrics = actor.grpo_step(judged)
    assert metrics["mismatch"] < (0.05 if half else 1e-4)  # the same weights, once in an SFT batch, once in an RL one
    assert metrics["policy_kl"] > 0
    (tmp_path / "saved").mkdir()
    save_checkpoint(actor, tmp_path / "saved")
    after = actor.logprobs(examples)
    again = trainer.Trainer(tmp_path / "saved" / "policy" if not way.get("lora") else folder, config, 8)
    load_checkpoint(again, tmp_path / "saved")
    assert again.logprobs(examples) == after
    assert again.sft_step(examples)["loss"] == actor.sft_step(examples)["loss"]
    opened = Qwen3VLForConditionalGeneration.from_pretrained(tmp_path / "saved" / "policy")
    assert opened.config.get_text_config().vocab_size == len(opened.get_input_embeddings().weight)
