"""Checkpoints of ADM networks (`adm`): FILE.pt, and FILE.json with what is not in it."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from configs import UserError
from reward_actors.priors.adm import AdmNetwork, Unwritten, from_state

EXAMPLE = '{"head_channels": 64}'


def load_adm(path: Path, dtype: torch.dtype = torch.float32) -> AdmNetwork:
    """The network of a checkpoint FILE.pt with FILE.json beside it.

    Raises:
        UserError: unreadable file, another network's parameters, or a JSON file that is missing or wrong.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"reward.prior={path}: no readable checkpoint of tensors: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(part, Tensor) for part in state.values()):
        found = f"a {type(state).__name__}" + (" of other things" if isinstance(state, dict) else "")
        raise UserError(
            f"reward.prior={path}: expected a state dict, tensors by their names, found {found}: save the network's "
            "state_dict() alone"
        )
    return from_state(state, unwritten(path, state), str(path)).to(dtype)


def unwritten(path: Path, state: dict[str, Tensor]) -> Unwritten:
    """The settings beside a checkpoint, checked against it. Raises UserError where they are missing or wrong."""
    beside = path.with_suffix(".json")
    attends = any(str(name).endswith(".qkv.weight") for name in state)
    if not beside.is_file() and (attends or "label_emb.weight" in state):
        raise UserError(
            f"reward.prior={path}: how many attention heads it has is not in the file: expected {beside}, such as"
            f' {EXAMPLE} (or "heads": 4); "new_attention_order" and "label" may stand there too'
        )
    found = _read(beside) if beside.is_file() else Unwritten(heads=1)
    if attends and (found.head_channels > 0) == (found.heads > 0):
        raise UserError(f"{beside}: expected head_channels or heads, one of them, as in {EXAMPLE}")
    if found.noise_schedule != "linear":
        raise UserError(f"{beside}: expected noise_schedule linear, got {found.noise_schedule}")
    classes = len(state["label_emb.weight"]) if "label_emb.weight" in state else 0
    if classes and not 0 <= found.label < classes:
        raise UserError(f'{beside}: the network is class-conditional: expected "label" 0 .. {classes - 1}')
    return found


def _read(path: Path) -> Unwritten:
    usual = asdict(Unwritten())
    try:
        found = Unwritten(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: expected a JSON object with some of {', '.join(usual)}: {error}") from error
    for name, value in asdict(found).items():
        kind = type(usual[name])
        if type(value) is not kind:
            raise UserError(f"{path}: expected {name} as {kind.__name__}, such as {usual[name]!r}, got {value!r}")
    return found
