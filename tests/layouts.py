"""Folders in the layouts of public datasets, with pictures of their true sizes, made of the bundled photographs."""

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from envs.corpus.datasets import BUNDLED

PHOTOS = sorted(BUNDLED.glob("*.jpg"))
SIZES = {"celeba": (178, 218), "bdd100k": (1280, 720), "nuscenes": (1600, 900)}


def place(number: int, target: Path, size: tuple[int, int] | None = None) -> None:
    """Writes picture `number` of endlessly many different ones, all cut from the bundled photographs.

    size: width and height, pixels; else those of the photograph.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    source, turns = PHOTOS[number % len(PHOTOS)], number // len(PHOTOS)
    picture = np.asarray(Image.open(source).convert("RGB"))
    if turns % 2:
        picture = picture[:, ::-1]
    if turns // 2:  # another part of it
        height, width = picture.shape[:2]
        top, left = np.random.default_rng(turns).integers(0, [height // 2, width // 2])
        picture = picture[top : top + height // 2, left : left + width // 2]
    if size:
        picture = cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_CUBIC)
    Image.fromarray(np.ascontiguousarray(picture)).save(target, quality=92)


def make_celeba(root: Path, count: int = 8, first: int = 0) -> Path:
    """The last two of `count` faces are val and test."""
    lines = []
    for number in range(count):
        name = f"{number + 1:06d}.jpg"
        place(first + number, root / "img_align_celeba" / name, SIZES["celeba"])
        lines.append(f"{name} {max(0, number - count + 3)}")
    (root / "list_eval_partition.txt").write_text("\n".join(lines) + "\n")
    return root


def make_bdd100k(root: Path, count: int = 5, first: int = 0) -> Path:
    """The last two of `count` drives are val and test."""
    for number in range(count):
        split = ("train", "val", "test")[max(0, number - count + 3)]
        place(first + number, root / "bdd100k/images/100k" / split / f"{number:08x}.jpg", SIZES["bdd100k"])
    return root


def make_nuscenes(root: Path, scenes: int = 4, frames: int = 1, first: int = 0, lidar: bool = False) -> Path:
    """Scenes of some frames each, with a side camera and a sweep in the tables; `lidar`: with a sweep of points.

    The points are a street: a plane 1.8 m below the camera, and a wall 30 m ahead. Camera and LiDAR are in one place.
    """
    tables = {"scene": [], "sample": [], "sample_data": [], "calibrated_sensor": [], "ego_pose": []}
    identity = {"translation": [0.0, 0.0, 0.0], "rotation": [1.0, 0.0, 0.0, 0.0]}
    tables["ego_pose"].append({"token": "pose", "timestamp": 1, **identity})
    width, height = SIZES["nuscenes"]
    intrinsic = [[1266.4, 0.0, width / 2], [0.0, 1266.4, height / 2], [0.0, 0.0, 1.0]]
    tables["calibrated_sensor"].append({"token": "camera", "camera_intrinsic": intrinsic, **identity})
    tables["calibrated_sensor"].append({"token": "lidar", "camera_intrinsic": [], **identity})
    for scene in range(scenes):
        name = {"token": f"s{scene}", "name": f"scene-{scene:04d}", "description": "rain, {sic} and a }"}
        tables["scene"].append(name)
        for frame in range(frames):
            token = f"t{scene}{frame}"
            tables["sample"].append({"token": token, "scene_token": f"s{scene}", "timestamp": 1})
            for sensor, suffix in (
                ("samples/CAM_FRONT", "jpg"),
                ("samples/CAM_BACK", "jpg"),
                ("sweeps/CAM_FRONT", "jpg"),
                ("samples/LIDAR_TOP", "pcd.bin"),
            ):
                row = {
                    "token": f"{token}{sensor}",
                    "sample_token": token,
                    "ego_pose_token": "pose",
                    "calibrated_sensor_token": "lidar" if "LIDAR" in sensor else "camera",
                    "filename": f"{sensor}/{token}.{suffix}",
                    "is_key_frame": not sensor.startswith("sweeps"),
                }
                tables["sample_data"].append(row)
            place(first + scene * frames + frame, root / "samples/CAM_FRONT" / f"{token}.jpg", SIZES["nuscenes"])
            if lidar:
                (root / "samples/LIDAR_TOP").mkdir(exist_ok=True)
                street_points().tofile(root / "samples/LIDAR_TOP" / f"{token}.pcd.bin")
    (root / "v1.0-mini").mkdir(exist_ok=True)
    for name, rows in tables.items():
        (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(rows, indent=0))
    return root


def street_points() -> np.ndarray:
    """float32 (N, 5) x, y, z, intensity, ring in the camera's axes: x right, y down, z ahead, metres."""
    x, z = np.meshgrid(np.linspace(-15, 15, 200), np.geomspace(3, 30, 60))
    ground = np.stack([x, np.full_like(x, 1.8), z], -1).reshape(-1, 3)
    x, y = np.meshgrid(np.linspace(-20, 20, 300), np.linspace(-10, 1.8, 50))
    wall = np.stack([x, y, np.full_like(x, 30.0)], -1).reshape(-1, 3)
    points = np.concatenate([ground, wall])
    return np.concatenate([points, np.zeros((len(points), 2))], 1).astype(np.float32)
