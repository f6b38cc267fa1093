"""Other families of image-text models are adopted, and compute in the learner what they compute alone."""

import numpy as np
import pytest
import torch
from backbones import BACKBONES

from configs import UserError
from configs.schema import World
from envs.observation import VIEWS, chat, views
from envs.taxonomy import TAXONOMY
from envs.world import check_world
from learner.distributed.weights import choose_trained, weights
from learner.policy.collator import Collator, Example
from learner.policy.generate import greedy
from learner.policy.initial import adopt
from learner.policy.model import Policy, load_policy
from learner.policy.targets import AnswerLanguage

WORLD = World(size=64)


@pytest.fixture(scope="module", params=BACKBONES)
def folder(request, tmp_path_factory):
    plain = BACKBONES[request.param](tmp_path_factory.mktemp("plain"))
    return adopt(plain, tmp_path_factory.mktemp("adopted"), WORLD)


@pytest.fixture(scope="module")
def loaded(folder):
    return load_policy(folder)


@pytest.fixture(scope="module")
def collate(loaded):
    return Collator(loaded[1], loaded[0].model, VIEWS)


@pytest.fixture(scope="module")
def answers(loaded):
    language = AnswerLanguage(loaded[1].tokenizer, TAXONOMY)
    return [
        language.completion(TAXONOMY.degradation("blur", {"sigma": 2.5})),
        language.completion(TAXONOMY.degradation("haze", {"atmospheric_light": 0.8, "transmission": 0.4})),
    ]


def inputs(processor, image):
    prompt = processor.apply_chat_template(chat(len(VIEWS)), add_generation_prompt=True)
    return processor(text=[prompt], images=views(image), return_tensors="pt")


def logits_alone(model, processor, image, completion):
    """Of the published forward pass, one sequence at a time."""
    given, written = inputs(processor, image), torch.tensor([completion])
    given["input_ids"] = torch.cat([given["input_ids"], written], 1)
    given["attention_mask"] = torch.ones_like(given["input_ids"])
    if "mm_token_type_ids" in given:
        kinds = given["mm_token_type_ids"]
        given["mm_token_type_ids"] = torch.cat([kinds, torch.zeros_like(written, dtype=kinds.dtype)], 1)
    return model(**given).logits[0, -len(completion) - 1 : -1]


def test_an_adopted_model_is_a_policy_of_its_world(folder):
    check_world(folder, WORLD)


@torch.no_grad()
def test_answers_of_a_group_are_as_likely_as_each_alone(loaded, collate, answers, photo):
    model, processor = loaded
    images = [np.ascontiguousarray(photo[:64, :64]), np.ascontiguousarray(photo[64:, 64:])]
    examples = [Example(images[0], answers[0]), Example(images[0], answers[1]), Example(images[1], answers[0])]
    batch = collate(examples)
    assert len(batch.input_ids) == 2
    found = Policy(model, linear_patches=True)(batch)
    for row, example in enumerate(examples):
        alone = logits_alone(model, processor, example.image, example.completion)
        assert torch.allclose(found[row, : len(alone)], alone, atol=1e-5)
    assert not torch.allclose(found[0], found[2], atol=1e-3)  # what it sees matters


def test_prompts_are_counted_without_processing_them(collate, answers, photo):
    example = Example(np.ascontiguousarray(photo[:64, :64]), answers[0])
    length = collate.length(example)
    assert length.prompt == int(collate([example]).before[0, 0]) + 1
    assert length.completion == len(answers[0])


@torch.no_grad()
def test_greedy_answers_are_those_of_generate(loaded, collate, photo):
    model, processor = loaded
    image = np.ascontiguousarray(photo[:64, :64])
    found = greedy(Policy(model), collate, processor.tokenizer, [image], 6)[0]
    given = inputs(processor, image)
    ids = model.generate(**given, max_new_tokens=6, do_sample=False)[0, given["input_ids"].shape[1] :]
    assert found == processor.tokenizer.decode(ids).removesuffix("<|im_end|>")


@pytest.mark.parametrize("trained", ["all", "language", "norms", "final_norm"])
def test_what_is_trained_is_found_in_every_family(folder, trained, collate, answers, photo):
    model, _ = load_policy(folder)
    choose_trained(model, 0, trained)
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    sees = [name for name in names if "vision_tower" in name or "visual" in name]
    assert bool(sees) == (trained == "all")
    assert len(names) == {"norms": 5, "final_norm": 1}.get(trained, len(names))
    batch = collate([Example(np.ascontiguousarray(photo[:64, :64]), answers[0])])
    Policy(model)(batch).logsumexp(-1).sum().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if n in names and "language_model" in n)


def test_adapters_leave_the_vision_tower_alone_where_they_are_told_to(folder):
    model, _ = load_policy(folder)
    choose_trained(model, 2, "language")
    adapted = [weight.name for weight in weights(model) if weight.layer]
    assert any("self_attn" in name for name in adapted)
    assert not any("vision_tower" in name or "visual" in name for name in adapted)


def test_a_model_whose_prompts_see_ahead_is_refused_in_one_sentence(tmp_path):
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    from learner.policy.pictures import obstacle

    text = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"num_key_value_heads": 1, "vocab_size": 64, "head_dim": 16, "pad_token_id": 0}
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    model = Gemma3ForConditionalGeneration(
        Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=1, image_token_index=3)
    )
    assert "token_type_ids" in obstacle(model)
    model.save_pretrained(BACKBONES["llava"](tmp_path))  # with a processor that opens
    with pytest.raises(UserError, match="a Gemma3ForConditionalGeneration can be evaluated but not trained here"):
        adopt(tmp_path, tmp_path / "out", WORLD)
    assert not (tmp_path / "out").exists()
