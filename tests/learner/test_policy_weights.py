"""Which weights are trained, and under which names and values engines and folders see them. No engine."""

import pytest
import torch

from learner.distributed import weights
from learner.policy.collator import Collator
from learner.policy.model import Policy, load_policy


@pytest.fixture
def model(policy_folder):
    return load_policy(policy_folder)[0]


def plain(policy_folder):
    return dict(load_policy(policy_folder)[0].named_parameters())


def disturb(model):
    """Adapters begin as nothing (their second factor is 0): a few steps of training make them something."""
    generator = torch.Generator().manual_seed(0)
    for parameter in weights.adapter_parameters(model).values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture
def batch(policy_folder, examples):
    model, processor = load_policy(policy_folder)
    return Collator(processor, model.model, ["image", "fft", "edge"])(examples[:2])


WAYS = [(0, name) for name in ("all", "language", "norms", "final_norm")] + [(4, "all"), (4, "language")]


@pytest.mark.parametrize(("lora", "trained"), WAYS)
def test_whatever_is_trained_names_shapes_and_values_are_those_of_the_checkpoint(model, policy_folder, lora, trained):
    weights.choose_trained(model, lora, trained)
    listed = weights.weights(model)
    found, expected = dict(weights.named_tensors(listed)), plain(policy_folder)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    weights.manifest(listed).check(policy_folder)


def test_a_frozen_vision_tower_is_no_part_of_later_transfers(model):
    weights.choose_trained(model, 0, "language")
    later = weights.manifest(weights.weights(model)).changing()
    assert later.names
    assert not any("visual" in name for name in later.names)
    assert {name for name, _ in model.named_parameters() if "visual" not in name} == set(later.names)


def test_the_norms_alone_are_a_thousandth_of_the_weights_and_of_what_travels(model):
    weights.choose_trained(model, 0, "norms")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == set(weights.manifest(weights.weights(model)).changing().names)
    assert all("language_model" in name and "norm" in name for name in trained)
    assert "model.language_model.norm.weight" in trained
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    assert sum(sizes[name] for name in trained) < sum(sizes.values()) / 1000


def test_the_final_norm_is_one_tensor(model):
    weights.choose_trained(model, 0, "final_norm")
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained == ["model.language_model.norm.weight"]
    assert list(weights.manifest(weights.weights(model)).changing().names) == trained


def test_lora_trains_adapters_alone_and_sends_modules_as_wholes(model):
    weights.choose_trained(model, 4, "all")
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained == list(weights.adapter_parameters(model))
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    assert sum(sizes[name] for name in trained) < sum(sizes.values()) / 5
    later = weights.manifest(weights.weights(model)).changing().names
    assert "model.visual.blocks.0.attn.qkv.weight" in later
    assert "model.visual.blocks.0.attn.qkv.bias" in later  # of the same module
    assert not any("norm" in name for name in later)


def test_merged_adapters_compute_what_the_adapters_do_and_without_them_the_start_is_left(model, batch, policy_folder):
    with torch.no_grad():
        start = Policy(model)(batch)
        weights.choose_trained(model, 4, "all")
        assert torch.equal(Policy(model)(batch), start)
        disturb(model)
        trained = Policy(model)(batch)
        with weights.adapters_off(model):
            assert torch.equal(Policy(model)(batch), start)
        assert torch.equal(Policy(model)(batch), trained)
        merged = load_policy(policy_folder)[0]
        merged.load_state_dict(dict(weights.named_tensors(weights.weights(model))))
        assert (trained - start).abs().max() > 0.1
        assert (Policy(merged)(batch) - trained).abs().max() < 1e-3


def test_tied_tables_are_left_alone_by_lora(model):
    model.config.tie_word_embeddings = True
    weights.choose_trained(model, 4, "all")
    assert not any("embed_tokens" in name or "lm_head" in name for name in weights.adapter_parameters(model))
