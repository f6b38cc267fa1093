"""What a reward actor holds in memory: its prior, and the pictures that are in the denoiser at once."""

from __future__ import annotations

import json
from pathlib import Path

from configs.cluster.memory import Need, Part
from configs.cluster.resources import reward_actors
from configs.schema import Config

SHIPPED = Path(__file__).parent / "weights" / "prior"
PUBLISHED = {"google/ddpm-celebahq-256": (113_673_219, 128)}
"""Parameters, and channels at full size, of priors that are named before they are here."""
FACTOR = 11
"""Feature maps at full size, as wide as the first level, that a denoiser call holds: measured on `PUBLISHED`."""
CONTEXT, PROCESS = 0.6e9, 0.7e9


def actor_need(config: Config) -> Need:
    """States what one reward actor holds on its share of a GPU, or on a CPU in host memory.

    `reward.batch` is an upper bound: an actor measures what fits when it starts, and takes fewer rows.
    """
    reward, size = config.reward, config.world.size
    width = 2 if reward.gpus and reward.dtype != "float32" else 4
    parameters, channels, pack = prior_shape(reward.prior)
    picture = FACTOR * channels * (size // pack) ** 2 * width
    rows = reward.batch if reward.gpus else 1  # on a CPU rows are computed one by one
    parts: tuple[Part, ...] = (
        Part("prior", width * parameters, f"{width} x {parameters / 1e6:.1f} M"),
        Part("denoiser call", rows * picture, f"at most {rows} pictures x {picture / 1e6:.0f} MB"),
    )
    parts = tuple(part for part in parts if part.bytes)
    hint = "a smaller reward.batch, reward.dtype=bfloat16 or fewer reward actors on a GPU make it smaller"
    host = (Part("process", PROCESS * (3 if reward.gpus else 1), "libraries; assumed"),)
    if not reward.gpus:
        return Need(reward_actors(config), (), (*host, *parts), hint=hint)
    return Need(reward_actors(config), (*parts, Part("CUDA", CONTEXT, "context and kernels; assumed")), host, hint=hint)


def prior_shape(spec: str) -> tuple[int, int, int]:
    """Finds parameters, channels of the first level, and how many pixels a side a place of it packs; zeros for the
    Gaussian prior and for one that is not here."""
    if spec in PUBLISHED:
        return (*PUBLISHED[spec], 1)
    folder = SHIPPED if spec == "shipped" else Path(spec).expanduser()
    if folder.suffix in (".pt", ".pth"):
        return (folder.stat().st_size // 4 if folder.is_file() else 0, 256, 1)
    place = next((each for each in (folder / "unet", folder) if (each / "config.json").is_file()), None)
    if place is None:
        return 0, 0, 1
    config = json.loads((place / "config.json").read_text())
    count = sum(_elements(file) for file in place.glob("*.safetensors"))
    return count, config["block_out_channels"][0], round((config["in_channels"] / 3) ** 0.5)


def _elements(file: Path) -> int:
    """Counts the elements of all tensors of a safetensors file, from its header."""
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    total = 0
    for name, entry in header.items():
        if name != "__metadata__":
            elements = 1
            for side in entry["shape"]:
                elements *= side
            total += elements
    return total
