"""A vision-language model that knows nothing of degradations becomes a policy that SFT can start from."""

import time

import numpy as np
import pytest
import torch
from qwen3vl_cut import build_cut
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from configs import UserError
from configs.schema import World
from envs.language.answer import answer_tokens, write
from envs.taxonomy import TAXONOMY, Taxonomy
from envs.world import check_world, is_foreign
from learner.policy.collator import Collator, Example
from learner.policy.initial import adopt
from learner.policy.model import Policy, load_policy
from learner.policy.tiny import build_tiny_policy

WORLD = World(size=64)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return build_tiny_policy(tmp_path_factory.mktemp("plain"), Taxonomy(()), WORLD.size)


@pytest.fixture(scope="module")
def adopted(plain, tmp_path_factory):
    return adopt(plain, tmp_path_factory.mktemp("adopted"), WORLD)


def test_a_model_of_somebody_else_is_told_from_one_of_ours(plain, adopted, tmp_path):
    assert is_foreign(plain)
    assert not is_foreign(adopted)
    assert not is_foreign(tmp_path)


def test_every_answer_is_one_token_a_word_afterwards_and_the_world_is_written(adopted):
    tokenizer = AutoProcessor.from_pretrained(adopted).tokenizer
    assert set(answer_tokens(TAXONOMY)) <= set(tokenizer.get_vocab())
    blur = TAXONOMY.degradation("blur", {"sigma": 2.5})
    assert len(tokenizer.encode(write(blur, TAXONOMY, with_rationale=False))) == 3
    check_world(adopted, WORLD)


def test_what_the_model_knew_before_stays(plain, adopted):
    before, after = (Qwen3VLForConditionalGeneration.from_pretrained(folder) for folder in (plain, adopted))
    rows = len(AutoProcessor.from_pretrained(plain).tokenizer)
    for table in ("get_input_embeddings", "get_output_embeddings"):
        old, new = (getattr(model, table)().weight[:rows] for model in (before, after))
        assert torch.equal(old, new)
    assert torch.equal(before.model.visual.patch_embed.proj.weight, after.model.visual.patch_embed.proj.weight)


def test_rows_that_no_token_had_begin_as_the_mean_also_those_of_a_padded_table(plain, adopted):
    """Tokens that landed in a table's padding kept its random rows: all type and key tokens of a published Qwen3-VL."""
    before, after = (Qwen3VLForConditionalGeneration.from_pretrained(folder) for folder in (plain, adopted))
    tokenizer = AutoProcessor.from_pretrained(adopted).tokenizer
    known = len(AutoProcessor.from_pretrained(plain).tokenizer)
    words = [token for token in answer_tokens(TAXONOMY) if not token.startswith("[V-")]
    ids = tokenizer.convert_tokens_to_ids(words)
    assert known <= min(ids) < before.get_input_embeddings().num_embeddings
    for table in ("get_input_embeddings", "get_output_embeddings"):
        mean = getattr(before, table)().weight[:known].mean(0)
        assert torch.allclose(getattr(after, table)().weight[ids], mean.expand(len(ids), -1), atol=1e-6)


def test_values_begin_ordered_so_that_neighbours_are_alike(adopted):
    model, processor = load_policy(adopted)
    table = model.get_input_embeddings().weight
    ids = processor.tokenizer.convert_tokens_to_ids([TAXONOMY.keys["sigma"].token(s) for s in (2.0, 2.01, 2.5)])
    near, far = (torch.cosine_similarity(table[ids[0]], table[ids[i]], dim=0) for i in (1, 2))
    assert near > far
    assert near > 0.9


def test_at_the_published_width_means_are_set_directly(tmp_path):
    """transformers' own means come with a covariance of the whole width, twice: 873 s at 4,096."""
    plain = build_cut(tmp_path / "plain", hidden=4096, intermediate=64, vocabulary=2048)
    began = time.process_time()
    adopted = adopt(plain, tmp_path / "adopted", WORLD)
    assert time.process_time() - began < 60
    before, after = (Qwen3VLForConditionalGeneration.from_pretrained(folder) for folder in (plain, adopted))
    known = len(AutoProcessor.from_pretrained(plain).tokenizer)
    row = AutoProcessor.from_pretrained(adopted).tokenizer.convert_tokens_to_ids("[T-blur]")
    mean = before.get_input_embeddings().weight[:known].mean(0)
    assert torch.allclose(after.get_input_embeddings().weight[row], mean, atol=1e-6)


def test_it_answers_in_the_learner(adopted):
    model, processor = load_policy(adopted)
    image = np.zeros((64, 64, 3), np.uint8)
    ids = tuple(processor.tokenizer.encode("[T-blur][K-sigma][V-2.50]"))
    logits = Policy(model)(Collator(processor, model.model, WORLD.views)([Example(image, ids)]))
    assert logits.shape[:2] == (1, 3)
    assert torch.isfinite(logits).all()


def test_what_is_no_such_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(UserError, match="expected a Qwen3-VL"):
        adopt(tmp_path, tmp_path / "out", WORLD)
