"""`duvlm run depth`: writes depth beside photographs, so that haze can follow it (`world.depth=file`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.progress import Progress

from configs import UserError
from configs.hub import model_folder
from configs.schema import Config
from envs.corpus.datasets import candidates, parse_sources
from envs.degradations import depth
from envs.depth.lidar import Sweep, complete, find_sweeps, project_sweep
from envs.pictures import UNREADABLE, read_picture

DISPARITY_MODELS = ("dpt", "depth_anything", "prompt_depth_anything")
"""Architectures whose networks give the inverse of depth, unless their configuration says that they are metric."""


def run(config: Config) -> None:
    """Writes depth beside every photograph of `photos=` that has none: measured by LiDAR where nuScenes has it, else
    estimated by the network of `model=`. Run it again to continue where it stopped.

    Raises:
        UserError: no photographs, no network for those without LiDAR, or one that does not estimate depth.
    """
    from configs.cluster.connect import prepare

    if config.photos == "bundled":
        raise UserError("photos=bundled: depth is written beside photographs; name a folder of your own")
    photos = [photo.path.resolve() for photo in candidates(config.photos)[0]]
    if not photos:
        raise UserError(f"photos={config.photos}: expected photographs, found none")
    todo = [photo for photo in photos if not depth.find_depth(photo)]
    sweeps = _sweeps(config.photos) if config.depth.lidar else {}
    measured = [(photo, sweeps[photo]) for photo in todo if photo in sweeps]
    estimated = [photo for photo in todo if photo not in sweeps]
    network = _network(config, len(estimated)) if estimated else None
    done = f"{len(photos)} photographs: {len(photos) - len(todo)} have depth already"
    print(f"{done}, {len(measured)} get it from LiDAR, {len(estimated)} from {config.model or 'a network'}", flush=True)
    if not todo:
        return
    prepare(config, "depth")
    failures = [*_shown(_with_ray(measured, estimated, network, config), len(todo))]
    for failure in failures:
        print(f"no depth for {failure}")
    print(f"{len(todo) - len(failures)} depth files written; build a corpus with world.depth=file")


@dataclass(frozen=True)
class Network:
    """Names a network and what its numbers are: `depth`, or `disparity`, its inverse."""

    folder: Path
    gives: str


class DepthEstimator:
    """Estimates the depth of photographs by transformers' `depth-estimation` pipeline."""

    def __init__(self, network: Network, gpus: float):
        import torch
        from transformers import pipeline

        torch.set_num_threads(1)
        self._gives = network.gives
        self._pipeline = pipeline("depth-estimation", model=str(network.folder), device=0 if gpus else -1)

    def estimate(self, picture: np.ndarray) -> np.ndarray:
        """Estimates what the network gives, in any unit: uint8 (H, W, 3) -> float32 (H, W)."""
        from PIL import Image

        return self._pipeline(Image.fromarray(picture))["predicted_depth"].squeeze().float().cpu().numpy()

    def __call__(self, row: dict) -> dict:
        """Writes the depth of row["photo"]; {"failure": why there is none, or nothing}."""
        photo = Path(row["photo"])
        try:
            picture = read_picture(photo)
        except UNREADABLE as error:
            return {"failure": f"{photo}: unreadable ({str(error)[:80]})"}
        write_numbers(photo, self.estimate(picture), self._gives)
        return {"failure": ""}


def write_numbers(photo: Path, numbers: np.ndarray, gives: str) -> Path:
    """Writes NAME.depth.png or NAME.disparity.png beside a photo, at once: 16 bits, in shares of the largest.

    Args:
        photo: its file.
        numbers: (H, W) in any unit, of the shape of the photo or smaller; not finite where unknown.
        gives: `depth` or `disparity`.

    Raises:
        UserError: the folder of the photographs cannot be written to.
    """
    known = np.isfinite(numbers)
    largest = numbers[known].max(initial=0)
    levels = np.where(known, numbers, 0) / (largest if largest > 0 else 1) * 65535
    levels = np.where(known, np.clip(np.round(levels), 1, 65535), 0).astype(np.uint16)  # 0 is unknown
    file = photo.with_suffix(f".{gives}.png")
    draft = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(cv2.imencode(".png", levels)[1].tobytes())
        draft.rename(file)
    except OSError as error:
        raise UserError(f"depth is written beside photographs, but not into {file.parent}: {error}") from None
    return file


def what_it_gives(network: dict) -> str:
    """Tells from a network's config.json whether it gives `depth` or `disparity`."""
    kind, backbone = network.get("model_type"), network.get("backbone_config") or {}
    metric = network.get("depth_estimation_type") == "metric" or (kind == "dpt" and "dinov2" in str(backbone))
    return "disparity" if kind in DISPARITY_MODELS and not metric else "depth"


def _network(config: Config, count: int) -> Network:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES as KNOWN

    if not config.model:
        raise UserError(
            f"model: expected a network that estimates depth, for {count} photographs without LiDAR: a folder, or a "
            "name on the Hugging Face Hub as in model=depth-anything/Depth-Anything-V2-Small-hf"
        )
    folder = model_folder(config.model, "model")
    try:
        network = AutoConfig.from_pretrained(folder, local_files_only=True).to_dict()
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:120]
        raise UserError(f"model={config.model}: expected the folder of a transformers model ({reason})") from None
    if network["model_type"] not in KNOWN:
        known = ", ".join(KNOWN)
        raise UserError(f"model={config.model}: a {network['model_type']} estimates no depth; expected one of {known}")
    gives = what_it_gives(network) if config.depth.gives == "auto" else config.depth.gives
    print(f"{config.model} gives {gives} (depth.gives=depth or disparity says otherwise)", flush=True)
    return Network(folder.resolve(), gives)


def _sweeps(spec: str) -> dict[Path, Sweep]:
    """LiDAR sweeps by photograph, of all parts of a `photos=` setting."""
    folders = [source.text.partition(":") for source in parse_sources(spec)]
    return {
        photo: sweep
        for layout, _, folder in folders
        if layout == "nuscenes"
        for photo, sweep in find_sweeps(Path(folder).resolve()).items()
    }


def _with_ray(
    measured: Sequence[tuple[Path, Sweep]], estimated: Sequence[Path], network: Network | None, config: Config
) -> Iterator[str]:
    """Yields, a photograph each, why there is no depth for it; empty where it was written."""
    import logging

    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    if measured:
        rows = ray.data.from_items([{"photo": str(photo), "sweep": sweep} for photo, sweep in measured])
        yield from (row["failure"] for row in rows.map(_measure, num_cpus=config.depth.cpus).iter_rows())
    if estimated:
        options = {"num_cpus": config.depth.cpus, "num_gpus": config.depth.gpus, "concurrency": config.depth.actors}
        arguments = {"network": network, "gpus": config.depth.gpus}
        blocks = min(len(estimated), max(config.depth.actors, len(estimated) // 16))
        rows = ray.data.from_items([{"photo": str(photo)} for photo in estimated], override_num_blocks=blocks)
        rows = rows.map(DepthEstimator, fn_constructor_kwargs=arguments, **options)
        yield from (row["failure"] for row in rows.iter_rows())


def _measure(row: dict) -> dict:
    photo = Path(row["photo"])
    try:
        height, width = read_picture(photo).shape[:2]
    except UNREADABLE as error:
        return {"failure": f"{photo}: unreadable ({str(error)[:80]})"}
    sparse = project_sweep(row["sweep"], height, width)
    if not (sparse > 0).any():
        return {"failure": f"{photo}: no LiDAR return is in the picture"}
    write_numbers(photo, complete(sparse), "depth")
    return {"failure": ""}


def _shown(failures: Iterator[str], total: int) -> Iterator[str]:
    """The failures that there are, with a bar on a terminal and a line every tenth elsewhere."""
    quiet, done = not sys.stdout.isatty(), 0
    with Progress(transient=True, disable=quiet) as progress:
        task = progress.add_task("photographs", total=total)
        for failure in failures:
            done += 1
            progress.advance(task)
            if quiet and done * 10 // total > (done - 1) * 10 // total:
                print(f"{done} of {total} photographs", flush=True)
            if failure:
                yield failure
