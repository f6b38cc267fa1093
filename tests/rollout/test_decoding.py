import torch

from rollout.decoding import median_only

GRID = torch.tensor([5, 3, 7])  # token ids by rising value


def chosen(*probabilities: float) -> int:
    logits = torch.full((1, 9), -20.0)
    logits[0, GRID] = torch.tensor(probabilities).log()
    found = median_only(logits, GRID)
    assert found.isfinite().sum() == 1
    return int(found.argmax())


def test_a_number_is_the_median_of_its_posterior_and_not_its_likeliest_bin():
    assert chosen(0.4, 0.25, 0.35) == 3


def test_a_certain_number_stays_itself():
    assert [chosen(0.98, 0.01, 0.01), chosen(0.01, 0.98, 0.01), chosen(0.01, 0.01, 0.98)] == [5, 3, 7]
