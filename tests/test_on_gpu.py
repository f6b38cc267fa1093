"""What only a GPU can show: run by `make test-gpu`; skipped where there is none."""

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]


def figures(part: str) -> dict:
    from benchmarks.gpu.__main__ import measure

    found = measure((part,))
    if part not in found:
        pytest.skip(f"{part} cannot run here")
    return found[part]


def test_the_denoiser_reaches_half_of_the_ceiling_in_bfloat16():
    found = figures("prior")
    assert max(value for name, value in found.items() if "bfloat16" in name and "share" in name) >= 0.5
    assert found["bfloat16: error of the noise, rms"] < 0.02


def test_a_learner_s_activations_are_those_that_are_planned():
    found = figures("learner")
    assert found["activations measured, GB"] == pytest.approx(found["activations predicted, GB"], rel=0.1)


def test_logits_in_pieces_take_little_beside_the_gradient_of_the_head_and_are_the_same():
    """That gradient is 1.2 GB, and there twice while pieces are added up."""
    found = figures("logits")
    assert found["19 pieces: peak, GB"] < 3.5 < found["at once: peak, GB"]
    assert found["largest difference"] < 1e-2


def test_what_one_process_holds_another_reads_on_the_same_gpu():
    assert figures("transfer")["ipc: GB/s"] > 10


def test_an_engine_starts_and_samples():
    assert figures("engine")["tokens/s"] > 0
