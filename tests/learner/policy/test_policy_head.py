"""The head over the vocabulary in pieces: the same numbers and gradients, a bounded part of the logits at a time."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from learner.losses import logprobs_and_entropy
from learner.policy import model as policy_model
from learner.policy.collator import Collator
from learner.policy.model import Policy, load_policy, read_in_pieces


def results(pieces):
    generator = torch.Generator().manual_seed(0)
    head = nn.Linear(16, 40, bias=False)
    head.weight.data = torch.randn(40, 16, generator=generator)
    hidden = torch.randn(3, 7, 16, generator=generator).requires_grad_()
    tokens = torch.randint(40, (3, 7), generator=generator)
    mask = (torch.arange(7) < torch.tensor([[7], [3], [5]])).float()
    logprobs, entropy = read_in_pieces(head, hidden, mask, logprobs_and_entropy, (tokens,), pieces)
    (logprobs * mask).sum().backward()
    return logprobs * mask, entropy * mask, hidden.grad, head.weight.grad


@pytest.mark.parametrize("pieces", [2, 4, 40])  # more than there are tokens, too
def test_pieces_change_neither_numbers_nor_gradients(pieces):
    for whole, parts in zip(results(1), results(pieces), strict=True):
        assert torch.allclose(whole, parts, atol=1e-5)


def test_the_policy_takes_as_many_pieces_as_its_logits_need(policy_folder, examples, monkeypatch):
    model, processor = load_policy(policy_folder)
    policy, batch = Policy(model), Collator(processor, model.model, ["image"])(examples)
    assert policy.pieces(batch) == 1
    monkeypatch.setattr(policy_model, "MAX_LOGITS", 10 * model.config.text_config.vocab_size)
    pieces = policy.pieces(batch)
    assert pieces == -(-int(batch.mask.sum()) // 10)
    with torch.no_grad():
        whole, parts = (policy(batch, logprobs_and_entropy, batch.completion, pieces=n) for n in (1, pieces))
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one * batch.mask, other, atol=1e-5)


class LiveLogits(TorchDispatchMode):
    """Adds up the bytes of the tensors alive whose last dimension is the vocabulary; remembers the most."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vocabulary, self.now, self.most = vocabulary, 0, 0
        self.known = set()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, torch.Tensor) and tensor.dim() > 1 and tensor.shape[-1] == self.vocabulary:
                storage = tensor.untyped_storage()
                if storage._cdata not in self.known:
                    self.known.add(storage._cdata)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        self.most = max(self.most, self.now)
        return made

    def _gone(self, key, size):
        self.known.discard(key)
        self.now -= size


def most_logits(tokens):
    """Bytes of logits at the worst moment of a step over so many tokens, which have no data; published vocabulary."""
    head = nn.Linear(8, 151_936, bias=False, device="meta", dtype=torch.bfloat16)
    hidden = torch.empty(1, tokens, 8, device="meta", dtype=torch.bfloat16, requires_grad=True)
    targets = (torch.empty(1, tokens, device="meta", dtype=torch.int64),)
    pieces = -(-tokens * head.out_features // policy_model.MAX_LOGITS)
    gc.collect()
    with LiveLogits(head.out_features) as live:
        read = read_in_pieces(head, hidden, torch.ones(1, tokens), logprobs_and_entropy, targets, pieces)
        read[0].sum().backward()
    return live.most


def test_a_step_of_any_length_holds_less_than_a_gigabyte_of_logits():
    few, many = most_logits(1_100), most_logits(11_000)  # whole the latter are 7 GB in float32; 600 for a million
    assert 2**28 < few < 2**30
    assert many <= few
