"""What the folder of a model must hold; looked at before anything is started that would open it."""

from __future__ import annotations

import json
from pathlib import Path

from configs import manifest
from configs.errors import UserError
from configs.files import damaged, read_json

WEIGHTS = ("*.safetensors", "*.bin")
PARTS = {
    "policy": (
        ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"),
        ("processor_config.json", "preprocessor_config.json"),
    ),
    "prior": (),
}
"""{kind of model: what it needs beside config.json and weights, each under one of these names}."""


def check_model(folder: Path, kind: str) -> None:
    """Checks the folder of a `policy` or `prior`: by its manifest, hashes and all; without one, as others' models are,
    whether its files are there and of the right form.

    Raises:
        UserError: a file is missing or damaged, or there are weights that do not belong to it.
    """
    folder = Path(folder)
    cure = f"copy the {kind} here again, or name another"
    written = manifest.check(folder, cure)
    if written is None:
        check_form(folder, kind, cure)
        return
    for file in sorted(folder.glob("*.safetensors")):
        if file.name not in written.files:
            raise UserError(f"{file} is not of this {kind}, and would be read with its weights: move it elsewhere")


def check_form(folder: Path, kind: str, cure: str = "") -> None:
    """Checks that all files of a model are there, and that each can be read; nothing is known of what is in them.

    Raises:
        UserError: one is not.
    """
    ending = f": {cure}" if cure else ""
    for file in (folder / "config.json", *folder.glob("*.json")):
        read_json(file, cure=cure)
    for names in PARTS[kind]:
        if not any((folder / name).is_file() for name in names):
            raise UserError(f"{folder / names[0]} is missing{ending}")
    for file in folder.glob("*.jinja"):
        try:
            file.read_bytes().decode()
        except ValueError as error:
            raise damaged(file, error, cure) from None
    for index in folder.glob("*.safetensors.index.json"):
        for name in sorted(set(read_json(index, ("weight_map",), cure)["weight_map"].values())):
            if not (folder / name).is_file():
                raise UserError(f"{folder / name} is missing{ending}")
    if not any(file for pattern in WEIGHTS for file in folder.glob(pattern)):
        expected = "model.safetensors" if kind == "policy" else "diffusion_pytorch_model.safetensors"
        raise UserError(f"{folder / expected} is missing{ending}")
    for file in folder.glob("*.safetensors"):
        _check_header(file, cure)


def _check_header(file: Path, cure: str) -> None:
    """Raises UserError where a safetensors file has no header, or not as many bytes as that says."""
    size = file.stat().st_size
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > size - 8:
                raise ValueError(f"it has {size} bytes, its header alone {length}")
            header = json.loads(opened.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, AttributeError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise damaged(file, f"no safetensors header: {error}", cure) from None
    if (whole := 8 + length + max(ends, default=0)) != size:
        raise damaged(file, f"it has {size} bytes, not the {whole} of its header", cure)
