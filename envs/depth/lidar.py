"""Depth that nuScenes has measured: LiDAR points projected into the front camera, and the gaps between them filled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from scipy.spatial.transform import Rotation

from envs.corpus.datasets import read_records

CAMERA, LIDAR = "samples/CAM_FRONT/", "samples/LIDAR_TOP/"
REDUCTION = 4
"""A map of depth is so many times smaller than its photograph: a sweep has some 3,000 points in a picture."""
NEAREST = 1.0
"""Metres from the camera below which a point is of the car itself."""


@dataclass(frozen=True)
class Sweep:
    """Names one LiDAR sweep and where a camera was that saw the same.

    Attributes:
        points: file of float32 rows x, y, z, intensity, ring, in metres and the axes of the LiDAR.
        to_camera: (4, 4), from those axes into the camera's: x right, y down, z ahead.
        intrinsic: (3, 3), from the camera's axes to pixels.
    """

    points: Path
    to_camera: np.ndarray
    intrinsic: np.ndarray


def find_sweeps(root: Path) -> dict[Path, Sweep]:
    """Finds the sweep of each front picture of a nuScenes folder; those without one are left out.

    Each sensor has its own pose of the car: LiDAR and camera do not measure at the same moment.
    """
    sweeps = {}
    for version in sorted(path for path in root.glob("v1.0-*") if path.is_dir()):
        tables = [version / f"{name}.json" for name in ("sample_data", "calibrated_sensor", "ego_pose")]
        if not all(table.is_file() for table in tables):
            continue
        pictures, clouds = {}, {}
        for row in read_records(tables[0]):
            for prefix, rows in ((CAMERA, pictures), (LIDAR, clouds)):
                if row["filename"].startswith(prefix) and (root / row["filename"]).is_file():
                    rows[row["sample_token"]] = row
        pairs = [(row, clouds[token]) for token, row in pictures.items() if token in clouds]
        needed = {row[key] for pair in pairs for row in pair for key in ("calibrated_sensor_token", "ego_pose_token")}
        placed = {row["token"]: row for table in tables[1:] for row in read_records(table) if row["token"] in needed}
        for picture, cloud in pairs:
            sensor = placed[picture["calibrated_sensor_token"]]
            to_camera = np.linalg.inv(_to_world(picture, placed)) @ _to_world(cloud, placed)
            intrinsic = np.array(sensor["camera_intrinsic"], float)
            sweeps[root / picture["filename"]] = Sweep(root / cloud["filename"], to_camera, intrinsic)
    return sweeps


def project_sweep(sweep: Sweep, height: int, width: int) -> np.ndarray:
    """Projects a sweep into its picture; of several points in one pixel the nearest is seen.

    Args:
        sweep: the points and the camera.
        height, width: of the picture, pixels.

    Returns:
        float32 (height / REDUCTION, width / REDUCTION), metres; 0 where no point is.
    """
    points = np.fromfile(sweep.points, np.float32).reshape(-1, 5)[:, :3].astype(np.float64)
    points = points @ sweep.to_camera[:3, :3].T + sweep.to_camera[:3, 3]
    points = points[points[:, 2] > NEAREST]
    u, v, _ = (points / points[:, 2:] @ sweep.intrinsic.T / REDUCTION).T
    rows, columns = height // REDUCTION, width // REDUCTION
    inside = (u >= 0) & (u < columns) & (v >= 0) & (v < rows)
    depth = np.full((rows, columns), np.inf)
    np.minimum.at(depth, (v[inside].astype(int), u[inside].astype(int)), points[inside, 2])
    return np.where(np.isfinite(depth), depth, 0).astype(np.float32)


def complete(sparse: np.ndarray) -> np.ndarray:
    """Fills the gaps between points: the inverse of depth, which planes keep linear, is interpolated over triangles.

    Outside of all triangles (the sky, the bonnet) it is that of the nearest point.

    Args:
        sparse: (H, W), 0 where nothing is known; known somewhere.

    Returns:
        float32 (H, W), the same unit, known everywhere.
    """
    known = np.argwhere(sparse > 0)
    inverse = 1 / sparse[tuple(known.T)].astype(np.float64)
    pixels = np.argwhere(np.ones_like(sparse))
    filled = NearestNDInterpolator(known, inverse)(pixels)
    if len(known) >= 4 and np.ptp(known, axis=0).min() > 0:
        linear = LinearNDInterpolator(known, inverse)(pixels)
        filled = np.where(np.isnan(linear), filled, linear)
    return (1 / filled).reshape(sparse.shape).astype(np.float32)


def _to_world(row: dict, placed: dict[str, dict]) -> np.ndarray:
    """(4, 4), from the axes of the sensor of a record into the world's."""
    return _pose(placed[row["ego_pose_token"]]) @ _pose(placed[row["calibrated_sensor_token"]])


def _pose(row: dict) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(row["rotation"], scalar_first=True).as_matrix()
    pose[:3, 3] = row["translation"]
    return pose
