r"""Takes the advantage of a value token in expectation over its key's whole grid, as the policy is now.

A token drawn from pi with advantage A(token) adds :math:`A \nabla \log \pi`, whose mean over draws is
:math:`\nabla \sum_v \pi(v) A(v)`. Where the curve of a group says A on the whole grid, that sum itself is the token's
part of the objective. Of two numbers, the second's A is the curve at the first as it was drawn; the first's is the
mean of the curve over the second, as the policy believed in it before the step (`Curve.first`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from envs.language.vocabulary import AnswerTokens, Place
from learner.fitted.curve import Curve
from learner.losses import Trajectory, logprobs_and_entropy

Worth = Callable[[Trajectory, Sequence[int]], Sequence[np.ndarray | None]]
"""Of an answer and the grid indices of its numbers, the worth of each number's grid; None: the token is not listed."""


@dataclass(frozen=True)
class Numbers:
    """Says where the fitted numbers of B completions of T tokens stand, and what every token would be worth there.

    row: int64 (B, T), 0 where a token is as it was drawn, else one more than its row in what follows.
    tokens: int64 (N, K), the grid of each number's key as tokens, padded with 0.
    worth: float32 (N, K), 0 on padding; tokens that are not listed are worth 0 too.
    """

    row: torch.Tensor
    tokens: torch.Tensor
    worth: torch.Tensor

    def to(self, device: torch.device | str) -> Numbers:
        """Returns the same with all its tensors on `device`."""
        return Numbers(self.row.to(device), self.tokens.to(device), self.worth.to(device))

    def read(self, logits: torch.Tensor, drawn: torch.Tensor, row: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Reads, of logits (n, V), the log-probabilities of the `drawn` tokens (n,), the entropies, and the expected
        worth, 0 where `row` (n,) is: (n,) each."""
        here = row.nonzero().squeeze(1)
        expected = (self._probabilities(logits, row, here) * self.worth[row[here] - 1]).sum(1)
        blank = torch.zeros(len(row), device=row.device)
        return *logprobs_and_entropy(logits, drawn), blank.index_copy(0, here, expected)

    def densities(self, logits: torch.Tensor, row: torch.Tensor) -> tuple[torch.Tensor]:
        """Reads the probabilities of the listed tokens, (n, K); 0 where `row` (n,) is."""
        here = row.nonzero().squeeze(1)
        blank = torch.zeros(len(row), self.tokens.shape[1], device=row.device)
        return (blank.index_copy(0, here, self._probabilities(logits, row, here)),)

    def _probabilities(self, logits: torch.Tensor, row: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
        chosen = logits[here]
        return (chosen.gather(1, self.tokens[row[here] - 1]) - chosen.logsumexp(1, keepdim=True)).exp()


def places(trajectory: Trajectory, answers: AnswerTokens) -> tuple[Place, ...]:
    """Finds the numbers that the curve of an answer is about; none where it has no curve."""
    if trajectory.curve is None:
        return ()
    places_written = tuple(answers.places(trajectory.example.completion))
    return places_written if tuple(place.key for place in places_written) == trajectory.curve.keys else ()


def indices(trajectory: Trajectory, answers: AnswerTokens) -> list[int]:
    """Lists the grid indices of the numbers at `places`."""
    ids = trajectory.example.completion
    return [answers.values[place.key].index(ids[place.position]) for place in places(trajectory, answers)]


def lay_out(chunk: Sequence[Trajectory], answers: AnswerTokens, worth: Worth) -> Numbers:
    """Lays the numbers of completions out as `Numbers`, as wide as the longest completion."""
    row = torch.zeros(len(chunk), max(len(t.example.completion) for t in chunk), dtype=torch.int64)
    tokens, worths = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0)]
    for i, trajectory in enumerate(chunk):
        value_places = places(trajectory, answers)
        listed = worth(trajectory, indices(trajectory, answers)) if value_places else ()
        for place, each in zip(value_places, listed, strict=True):
            if each is not None:
                row[i, place.position] = len(tokens)
                tokens.append(torch.tensor(answers.values[place.key]))
                worths.append(torch.from_numpy(each))
    return Numbers(row, pad_sequence(tokens, batch_first=True)[1:], pad_sequence(worths, batch_first=True)[1:])


def seconds_alone(trajectory: Trajectory, given: Sequence[int]) -> Sequence[np.ndarray | None]:
    """The `Worth` that lists second numbers only: what the policy believes of them is to be read, not learned."""
    return [None, np.zeros(len(trajectory.curve.factors[1]), np.float32)] if len(given) == 2 else [None] * len(given)


def of_curves(firsts: Mapping[int, np.ndarray]) -> Worth:
    """Makes the `Worth` that the curves say. firsts: what `first_worths` returned."""

    def worth(trajectory: Trajectory, given: Sequence[int]) -> Sequence[np.ndarray]:
        curve = trajectory.curve
        return [*([firsts[id(curve)]] if len(given) == 2 else []), curve.last(given[:-1])]

    return worth


def first_worths(
    chunks: Sequence[Sequence[Trajectory]], answers: AnswerTokens, believed: Sequence[torch.Tensor]
) -> dict[int, np.ndarray]:
    """Computes what the first of two numbers is worth under each curve: {id of the curve: float32 (bins,)}.

    believed: float (B, T, K) of each chunk, what the policy believes of the second numbers where they stand
        (`Numbers.densities` of `seconds_alone`); empty where there are none.
    """
    seen: dict[int, list[tuple[int, np.ndarray]]] = {}
    curves: dict[int, Curve] = {}
    for chunk, densities in zip(chunks, believed, strict=False):  # a rank may make more passes than it has chunks
        for trajectory, density in zip(chunk, densities.cpu(), strict=True):
            value_places, curve = places(trajectory, answers), trajectory.curve
            if curve is not None and len(value_places) == 2:
                curves[id(curve)] = curve
                second = density[value_places[1].position, : len(curve.factors[1])].numpy()
                seen.setdefault(id(curve), []).append((indices(trajectory, answers)[0], second))
    return {name: curves[name].first(*map(np.array, zip(*pairs, strict=True))) for name, pairs in seen.items()}
