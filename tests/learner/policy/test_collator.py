"""The batch that the learner builds against the Hugging Face processor and model, one sequence at a time."""

import numpy as np
import pytest
import torch

from envs.observation import VIEWS, chat, views
from learner.policy.collator import Collator, Example
from learner.policy.model import Policy, load_policy


@pytest.fixture(scope="module")
def loaded(policy_folder):
    return load_policy(policy_folder)


@pytest.fixture(scope="module")
def collate(loaded):
    model, processor = loaded
    return Collator(processor, model.model, VIEWS)


def plain_inputs(processor, image):
    prompt = processor.apply_chat_template(chat(len(VIEWS)), add_generation_prompt=True)
    return processor(text=[prompt], images=views(image), return_tensors="pt")


def plain_logits(model, processor, example):
    inputs, completion = plain_inputs(processor, example.image), torch.tensor([example.completion])
    kinds = inputs.pop("mm_token_type_ids")
    inputs["input_ids"] = torch.cat([inputs["input_ids"], completion], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    kinds = torch.cat([kinds, torch.zeros_like(completion, dtype=kinds.dtype)], 1)
    return model(**inputs, mm_token_type_ids=kinds).logits[0, -completion.shape[1] - 1 : -1]


def test_tokens_and_pixels_are_the_processors(loaded, collate, examples):
    batch = collate(examples)
    for row, example in enumerate(examples):
        inputs = plain_inputs(loaded[1], example.image)
        length = int(batch.before[row, 0]) + 1
        assert batch.input_ids[row, :length].tolist() == inputs["input_ids"][0].tolist()
        count = len(example.completion)
        assert batch.input_ids[row, length : length + count].tolist() == list(example.completion)
        assert batch.mask[row].sum() == count
        patches = inputs["pixel_values"].shape[0]
        assert torch.equal(batch.shown.pixel_values[row * patches : (row + 1) * patches], inputs["pixel_values"])


@torch.no_grad()
@pytest.mark.parametrize("linear_patches", [False, True])
def test_padded_logits_are_those_of_each_sequence_alone(policy_folder, collate, examples, linear_patches):
    model, processor = load_policy(policy_folder)
    plain = [plain_logits(model, processor, example) for example in examples]
    found = Policy(model, linear_patches=linear_patches)(collate(examples))
    for row, logits in enumerate(plain):
        assert torch.allclose(found[row, : len(logits)], logits, atol=1e-4)


def test_attention_to_all_pictures_at_once_is_that_to_one_after_the_other(policy_folder, collate, examples):
    """Logits and gradients, to the bit."""
    results = []
    for at_once in (False, True):
        model, _ = load_policy(policy_folder)
        policy = Policy(model, linear_patches=True)
        for block in () if at_once else model.model.visual.blocks:
            del block.attn.forward  # the published one is there again
        logits = policy(collate(examples))
        logits.log_softmax(-1)[..., 3].sum().backward()
        results.append((logits.detach(), model.model.visual.patch_embed.proj.weight.grad))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("linear_patches", [False, True])
def test_images_of_different_sizes_share_a_batch(policy_folder, collate, examples, photo, linear_patches):
    model, processor = load_policy(policy_folder)
    mixed = [examples[0], Example(np.ascontiguousarray(photo[:64, :128]), examples[1].completion)]
    plain = [plain_logits(model, processor, example) for example in mixed]
    found = Policy(model, linear_patches=linear_patches)(collate(mixed))
    for row, logits in enumerate(plain):
        assert torch.allclose(found[row, : len(logits)], logits, atol=1e-4)


@torch.no_grad()
def test_completions_of_one_image_share_its_pictures(loaded, collate, examples):
    group = [Example(examples[0].image, e.completion) for e in examples]
    batch = collate(group)
    assert len(batch.shown.shapes) == len(VIEWS)
    apart = collate([Example(e.image.copy(), e.completion) for e in group])
    assert len(apart.shown.shapes) == len(VIEWS) * len(group)
    policy = Policy(loaded[0])
    assert torch.allclose(policy(batch), policy(apart), atol=1e-4)


def test_gradients_of_a_shared_image_add_up(policy_folder, collate, examples):
    def gradient(group):
        policy = Policy(load_policy(policy_folder)[0])
        batch = collate(group)
        (policy(batch).logsumexp(-1) * batch.mask).sum().backward()
        return policy.model.model.visual.patch_embed.proj.weight.grad

    group = [Example(examples[0].image, e.completion) for e in examples[:3]]
    apart = [Example(e.image.copy(), e.completion) for e in group]
    assert torch.allclose(gradient(group), gradient(apart), rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_greedy_answers_are_those_of_generate(loaded, collate, examples):
    from learner.policy.generate import greedy

    model, processor = loaded
    images = [example.image for example in examples[:3]]
    found = greedy(Policy(model), collate, processor.tokenizer, images, 6)
    for text, image in zip(found, images, strict=True):
        inputs = plain_inputs(processor, image)
        ids = model.generate(**inputs, max_new_tokens=6, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert text == processor.tokenizer.decode(ids).removesuffix("<|im_end|>")


def test_greedy_decoding_goes_on_where_activations_are_computed_twice(policy_folder, collate, examples):
    from learner.policy.generate import greedy

    model, processor = load_policy(policy_folder)
    images = [examples[0].image, examples[0].image]  # one and the same, too
    plain = greedy(Policy(model), collate, processor.tokenizer, images, 4)
    model.train().gradient_checkpointing_enable({"use_reentrant": False})
    assert greedy(Policy(model), collate, processor.tokenizer, images, 4) == plain
    assert plain[0] == plain[1]
    assert model.training


def test_images_of_several_sizes_are_not_decoded_together(loaded, collate, examples, photo):
    from learner.policy.generate import greedy

    images = [examples[0].image, np.ascontiguousarray(photo[:64, :128])]
    with pytest.raises(ValueError, match="one size"):
        greedy(Policy(loaded[0]), collate, loaded[1].tokenizer, images, 2)


def test_autocast_changes_logits_little(policy_folder, collate, examples):
    exact = Policy(load_policy(policy_folder)[0])(collate(examples))
    rough = Policy(load_policy(policy_folder)[0], autocast=True)(collate(examples))
    assert rough.dtype == torch.float32
    assert (exact - rough).abs().mean() < 0.02 * exact.std()


def test_a_folder_without_a_policy_is_refused(tmp_path):
    from configs import UserError

    with pytest.raises(UserError, match="no policy"):
        load_policy(tmp_path)
