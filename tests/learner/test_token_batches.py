"""Forward passes by token count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.examples import Collator, Example, token_batches

LENGTHS = st.lists(st.integers(1, 300), max_size=40)


@given(LENGTHS, st.integers(1, 1000))
def test_every_sequence_travels_once_in_order_and_a_padded_run_keeps_to_the_budget(lengths, budget):
    runs = [range(*run.indices(len(lengths))) for run in token_batches(lengths, budget)]
    assert [i for run in runs for i in run] == list(range(len(lengths)))
    for run in runs:
        assert len(run) == 1 or len(run) * max(lengths[i] for i in run) <= budget


@given(LENGTHS, st.integers(1, 1000))
def test_no_run_ends_while_the_next_sequence_would_fit(lengths, budget):
    runs = list(token_batches(lengths, budget))
    for run, following in zip(runs, runs[1:], strict=False):
        longer = lengths[run.start : following.start + 1]
        assert len(longer) * max(longer) > budget


@pytest.mark.parametrize("size", [64, 96])
def test_the_length_told_beforehand_is_that_of_the_batch(policy_folder, size):
    from learner.policy import load_policy

    model, processor = load_policy(policy_folder)
    for names in (["image"], ["image", "fft", "edge", "log"]):
        collate = Collator(processor, model.model, names)
        example = Example(np.zeros((size, size, 3), np.uint8), (1, 2, 3))
        assert collate.length(example) == collate([example]).input_ids.shape[1]


def test_the_tiny_track_s_default_is_about_sixteen_sequences(examples):
    from configs.schema import Config, World
    from envs.policy_world import SHIPPED
    from learner.policy import load_policy

    model, processor = load_policy(SHIPPED)
    collate = Collator(processor, model.model, World().views)
    lengths = [collate.length(Example(np.zeros((128, 128, 3), np.uint8), e.completion)) for e in examples] * 8
    assert len(range(*next(token_batches(lengths, Config().learner.micro_tokens)).indices(64))) in range(14, 19)
