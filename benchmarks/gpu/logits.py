"""What the head over 151,936 tokens takes in pieces and at once: peak memory, seconds, and that both agree."""

from __future__ import annotations

import torch

from benchmarks.gpu.common import peak_bytes
from configs.cluster.profiling import seconds
from learner.policy.head import read_in_pieces


def read(logits: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Reads log-probabilities and entropies, as a step of GRPO does."""
    with torch.no_grad():
        logprobs = logits.log_softmax(-1)
        entropy = -(logprobs.exp() * logprobs).sum(-1)
    return logits.gather(-1, tokens[..., None]).squeeze(-1) - logits.logsumexp(-1), entropy


def run(device: torch.device, small: bool) -> dict[str, float]:
    """Measures both ways, forward and backward."""
    tokens, width, vocabulary, pieces = (64, 32, 512, 4) if small else (4096, 4096, 151_936, 19)
    torch.manual_seed(0)
    dtype = torch.float32 if small else torch.bfloat16
    head = torch.nn.Linear(width, vocabulary, bias=False, device=device, dtype=dtype)
    hidden = torch.randn(1, tokens, width, device=device, dtype=dtype, requires_grad=True)
    wanted = torch.randint(0, vocabulary, (1, tokens), device=device)
    mask = torch.ones(1, tokens, device=device)
    found: dict[int, torch.Tensor] = {}

    def step(count: int) -> None:
        hidden.grad = head.weight.grad = None
        logprobs, _ = read_in_pieces(head, hidden, mask, read, (wanted,), count)
        logprobs.mean().backward()
        found[count] = torch.cat([logprobs.detach().flatten(), hidden.grad.float().flatten()])

    figures = {}
    for count in (pieces, 1):
        name = f"{count} pieces" if count > 1 else "at once"
        figures[f"{name}: seconds"] = seconds(lambda count=count: step(count), device)
        if peak := peak_bytes(lambda count=count: step(count), device):
            figures[f"{name}: peak, GB"] = peak / 1e9
    figures["largest difference"] = (found[pieces] - found[1]).abs().max().item()
    return figures
