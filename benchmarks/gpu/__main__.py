"""`python -m benchmarks.gpu [PART ...] [device=cpu] [size=small] [--json FILE]`: what a GPU makes of our kernels.

Needs PyTorch and transformers (for the denoiser diffusers, for the engine vLLM), not the project installed. Without a
GPU each part says so, and the exit status is 0.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

import torch

from benchmarks.gpu.common import SkippedError
from configs.errors import UserError

PARTS = ("prior", "learner", "logits", "transfer", "engine")


def measure(parts: tuple[str, ...] = PARTS, device: str = "cuda", small: bool = False) -> dict[str, dict]:
    """Runs the parts one after the other, prints their figures and returns them.

    device: `cuda` or `cpu`. small: sizes that a CPU takes a second for.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise UserError(f"gpu: unknown part {unknown[0]!r}: expected some of {', '.join(PARTS)}")
    found: dict[str, dict] = {}
    chosen = torch.device(device)
    if chosen.type == "cuda" and torch.cuda.is_available():
        found["machine"] = {"card": torch.cuda.get_device_name(), "torch": torch.__version__}
        print(f"{found['machine']['card']}, PyTorch {torch.__version__}")
    for part in parts:
        try:
            if chosen.type == "cuda" and not torch.cuda.is_available():
                raise SkippedError("no GPU")
            found[part] = importlib.import_module(f"benchmarks.gpu.{part}").run(chosen, small)
        except SkippedError as reason:
            print(f"{part}: {reason}: skipped", flush=True)
            continue
        for name, figure in found[part].items():
            print(f"{part}: {name} {figure:.4g}", flush=True)
    return found


def run(config, parts: list[str], device: str, small: bool) -> dict[str, dict]:
    """What `python -m benchmarks gpu` calls; the settings are not read."""
    return measure(tuple(parts), device, small)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line without what reads settings."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="PART|device=cpu|size=small", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args(arguments)
    settings = dict(word.split("=", 1) for word in options.words if "=" in word)
    parts = tuple(word for word in options.words if "=" not in word) or PARTS
    if wrong := set(settings) - {"device", "size"} or settings.get("size", "small") != "small":
        parser.error(f"expected device=cpu or size=small, got {wrong}")
    found = measure(parts, settings.get("device", "cuda"), "size" in settings)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
