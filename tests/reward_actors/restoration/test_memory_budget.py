"""A batch is as large as the memory allows."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from configs.schema import Config
from reward_actors.priors.base import linear_alphas
from reward_actors.restoration.memory_budget import Footprint, budget, measure, rows_within


@given(budget=st.integers(0, 10**12), fixed=st.integers(0, 10**11), per_row=st.integers(1, 10**10))
def test_the_rows_fit_and_one_more_does_not(budget, fixed, per_row):
    rows = rows_within(budget, Footprint(fixed, per_row))
    assert rows == 0 or fixed + rows * per_row <= budget
    assert fixed + (rows + 1) * per_row > budget


class Hungry:
    """A prior whose call holds 50 MiB and 20 MiB more for each row."""

    device, alphas_cumprod, fingerprint = torch.device("cpu"), linear_alphas(), "hungry"

    def eps(self, x, t):
        held = [torch.ones(50 * 2**18), torch.ones(len(x) * 20 * 2**18)]
        return x * held[0][0] * held[1].mean()


def footprint():
    return measure(Hungry(), 32)


def test_a_footprint_is_what_a_call_takes():
    """In a process of its own, as an actor's is: what other tests left to the allocator would be taken first."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        found = fresh.submit(footprint).result()
    assert found.per_row == pytest.approx(20 * 2**20, rel=0.25)
    assert found.fixed == pytest.approx(50 * 2**20, rel=0.25)


def test_the_actors_of_a_machine_share_its_memory():
    few, many = Config().reward, Config().reward
    few.actors, many.actors, many.max_actors = 2, 2, 8
    assert budget(few) == pytest.approx(4 * budget(many), rel=0.1)
