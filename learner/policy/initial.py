"""The policy that SFT begins with: a given one, one with random weights, or somebody else's model, adopted: it does not
know our answers yet."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from configs import UserError, manifest
from configs.files import read_json
from configs.hub import model_folder
from configs.models import check_model
from configs.schema import Config, World
from envs.language.answer import answer_tokens
from envs.world import is_foreign, policy_folder, world_taxonomy, write_world
from learner.policy.pictures import obstacle
from learner.policy.tiny import build_tiny_policy, order_values

SOURCE = "source.json"
"""In OUT/initial: the model that was adopted."""
MULTIPLE = 64
"""Rows of the embedding tables come in multiples of this, as matrix products like them."""


def initial_policy(config: Config, out: Path) -> Path:
    """Returns the folder of the policy that SFT begins with: config.policy, or in OUT/initial one with random weights
    or somebody else's model with our answer tokens.

    Raises:
        UserError: config.policy is no model or of another world; or a run is to be continued that began with another.
    """
    folder = (out / "initial").resolve()
    if config.policy == "random":
        aside = _aside(folder)
        build_tiny_policy(aside, world_taxonomy(config.world), config.world.size, config.seed)
        return _put(folder, aside)
    model = model_folder(config.policy, "policy")
    if is_foreign(model):
        return _adopted(model.resolve(), folder, config)
    return policy_folder(config.policy, config.world)


def _adopted(model: Path, folder: Path, config: Config) -> Path:
    """Adopts the model in `folder`, once: what continues a run starts from the same."""
    record = folder / SOURCE
    if config.resume and record.is_file():
        if (first := read_json(record, ("policy",))["policy"]) != str(model):
            raise UserError(
                f"policy={model}, but the run in {folder.parent} began with {first}: set it back, write elsewhere with "
                "name= or out=, or start anew with resume=false"
            )
        return policy_folder(str(folder), config.world)
    aside = _aside(folder)
    adopt(model, aside, config.world)
    (aside / SOURCE).write_text(json.dumps({"policy": str(model)}))
    return _put(folder, aside)


def _aside(folder: Path) -> Path:
    """Where a policy is written until it is complete."""
    aside = folder.with_name(f".{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    return aside


def _put(folder: Path, aside: Path) -> Path:
    manifest.write(aside, "policy")
    manifest.replace(folder, aside)
    return folder


def adopt(folder: Path, out: Path, world: World) -> Path:
    """Writes the image-text model of `folder`, with the answer tokens of `world`, to `out`, and returns that.

    Rows of the embeddings that no token had, among them those that pad a published table, begin as the mean of the
    rows of its tokens, those of values as smooth curves along their grids (`order_values`); all else stays as it is.

    Raises:
        UserError: `folder` holds no such model, or one that cannot be trained here (`learner.policy.pictures`).
    """
    try:
        check_model(folder, "policy")
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto", local_files_only=True)
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (UserError, OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"policy={folder}: expected a Qwen3-VL or another image-text model of transformers as a Hugging Face "
            f"folder: {str(error)[:200]}"
        ) from None
    if why := obstacle(model):
        raise UserError(f"policy={folder}: a {type(model).__name__} can be evaluated but not trained here: {why}")
    taxonomy = world_taxonomy(world)
    known = len(processor.tokenizer)
    processor.tokenizer.add_tokens(answer_tokens(taxonomy))
    needed = max(len(processor.tokenizer), model.get_input_embeddings().num_embeddings)
    with torch.no_grad():  # transformers' own means come with a covariance of the whole width: a quarter of an hour
        model.resize_token_embeddings(needed, pad_to_multiple_of=MULTIPLE, mean_resizing=False)
        for table in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
            table[known:] = table[:known].mean(0, dtype=torch.float32).to(table.dtype)
    order_values(model, processor.tokenizer, taxonomy)
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    write_world(out, world)
    return out
