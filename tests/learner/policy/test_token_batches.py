"""Forward passes by token count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.policy.collator import Collator, Example, Length, token_batches

LENGTHS = st.lists(st.builds(Length, st.integers(1, 4), st.integers(1, 200), st.integers(1, 100)), max_size=40)


def tokens(lengths):
    """Of the padded rows that hold them, by the definition: rows times the longest."""
    rows = []
    for i, length in enumerate(lengths):
        if i and length.image == lengths[i - 1].image:
            rows[-1] += length.completion
        else:
            rows.append(length.prompt + length.completion)
    return len(rows) * max(rows)


@given(LENGTHS, st.integers(1, 1000))
def test_every_example_travels_once_in_order_and_the_rows_of_a_run_keep_to_the_budget(lengths, budget):
    runs = list(token_batches(lengths, budget))
    assert [i for run in runs for i in range(run.start, run.stop)] == list(range(len(lengths)))
    for run in runs:
        assert run.stop - run.start == 1 or tokens(lengths[run]) <= budget


@given(LENGTHS, st.integers(1, 1000))
def test_no_run_ends_while_the_next_example_would_fit(lengths, budget):
    runs = list(token_batches(lengths, budget))
    for run, following in zip(runs, runs[1:], strict=False):
        assert tokens(lengths[run.start : following.start + 1]) > budget


@pytest.mark.parametrize("size", [64, 96])
def test_the_length_told_beforehand_is_that_of_the_batch(policy_folder, size):
    from learner.policy.model import load_policy

    model, processor = load_policy(policy_folder)
    for names in (["image"], ["image", "fft", "edge", "log"]):
        collate = Collator(processor, model.model, names)
        example = Example(np.zeros((size, size, 3), np.uint8), (1, 2, 3))
        length = collate.length(example)
        assert length.prompt + length.completion == collate([example]).input_ids.shape[1]


def test_the_tiny_track_s_default_is_about_sixteen_images(examples):
    from configs.schema import Config, World
    from envs.world import SHIPPED
    from learner.policy.model import load_policy

    model, processor = load_policy(SHIPPED)
    collate = Collator(processor, model.model, World().views)
    images = [Example(np.zeros((128, 128, 3), np.uint8), e.completion) for e in examples * 8]
    lengths = [collate.length(example) for example in images]
    assert len(lengths[next(token_batches(lengths, Config().learner.micro_tokens))]) in range(14, 19)
