"""`duvlm run depth` writes depth beside photographs: by a network of a real architecture, and by nuScenes' LiDAR."""

import json
from dataclasses import replace
from shutil import copytree

import cv2
import numpy as np
import pytest
from layouts import SIZES, make_nuscenes, place
from scipy.stats import spearmanr

from configs import UserError, load
from configs.schema import Config, World
from envs.corpus import build
from envs.degradations.depth import beside, find_depth, read_depth
from envs.depth import estimate
from envs.depth.estimate import DepthEstimator, Network, what_it_gives, write_numbers
from envs.depth.lidar import complete, find_sweeps, project_sweep
from envs.pictures import read_picture


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """A random Depth Anything of 40,000 parameters, saved as any of its kind is."""
    import torch
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

    backbone = Dinov2Config(
        hidden_size=24, num_hidden_layers=4, num_attention_heads=2, mlp_ratio=2, image_size=70, patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=24, patch_size=14, neck_hidden_sizes=[4, 8, 12, 16],
        fusion_hidden_size=8, head_hidden_size=8,
    )  # fmt: skip
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("network")
    DepthAnythingForDepthEstimation(config).eval().save_pretrained(folder)
    processor = DPTImageProcessor(
        size={"height": 70, "width": 70}, keep_aspect_ratio=True, ensure_multiple_of=14,
        image_mean=[0.5] * 3, image_std=[0.5] * 3,
    )  # fmt: skip
    processor.save_pretrained(folder)
    return folder


@pytest.mark.engine
def test_depth_is_written_beside_every_photograph_once_and_a_corpus_follows_it(network, tmp_path, capsys):
    photos = tmp_path / "photos"
    for number, split in enumerate(("train", "train", "val", "test")):
        place(number, photos / split / f"{number}.jpg", (320, 200))
    (photos / "train" / "broken.jpg").write_bytes(b"no picture")
    settings = [f"photos={photos}", f"model={network}", "depth.cpus=0.5"]
    estimate.run(load("depth", settings))
    text = capsys.readouterr().out
    assert "gives disparity" in text
    assert "no depth for" in text
    assert "4 depth files written" in text
    files = sorted(photos.rglob("*.disparity.png"))
    assert sorted(file.name for file in files) == [f"{n}.disparity.png" for n in (0, 1, 2, 3)]
    before = {file: file.stat().st_mtime_ns for file in files}
    files[0].unlink()
    (photos / "train" / "broken.jpg").unlink()
    estimate.run(load("depth", settings))
    assert "3 have depth already" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in files[1:]} == {file: before[file] for file in files[1:]}
    recipe, _ = build.plan(Config(photos=str(photos), count=40, size=48, world=World(depth="file")))
    assert all(photo.depth_digest for some in recipe.photos.values() for photo in some)


def test_what_is_written_is_what_the_network_gives_and_depth_is_its_inverse(network, tmp_path):
    photo = tmp_path / "photo.jpg"
    place(0, photo, (320, 200))
    estimator = DepthEstimator(Network(network, "disparity"), gpus=0)
    numbers = estimator.estimate(read_picture(photo))
    assert numbers.shape == (200, 320)
    assert estimator({"photo": str(photo)}) == {"failure": ""}
    written = cv2.imread(str(beside(photo)), cv2.IMREAD_UNCHANGED)
    assert written.dtype == np.uint16
    np.testing.assert_allclose(written / 65535, np.clip(numbers / numbers.max(), 0, 1), atol=2e-5)
    assert spearmanr(read_depth(photo, 200, 320).ravel(), numbers.ravel()).statistic < -0.95


@pytest.mark.parametrize(
    ("network", "gives"),
    [
        ({"model_type": "dpt"}, "disparity"),
        ({"model_type": "dpt", "backbone_config": {"model_type": "dinov2"}}, "depth"),
        ({"model_type": "depth_anything", "depth_estimation_type": "relative"}, "disparity"),
        ({"model_type": "depth_anything", "depth_estimation_type": "metric"}, "depth"),
        ({"model_type": "zoedepth"}, "depth"),
        ({"model_type": "glpn"}, "depth"),
    ],
)
def test_the_architecture_says_whether_it_gives_depth_or_its_inverse(network, gives):
    assert what_it_gives(network) == gives


def test_without_a_network_or_with_another_one_the_user_is_told(tmp_path):
    place(0, tmp_path / "photo.jpg", (320, 200))
    with pytest.raises(UserError, match="model: expected a network"):
        estimate.run(Config(photos=str(tmp_path)))
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(UserError, match="a clip estimates no depth"):
        estimate.run(Config(photos=str(tmp_path), model=str(tmp_path / "clip")))
    with pytest.raises(UserError, match="name a folder of your own"):
        estimate.run(Config())


def test_unknown_numbers_stay_unknown_and_a_folder_that_is_shut_is_told(tmp_path):
    numbers = np.full((20, 30), 4.0)
    numbers[:, 15:] = 8.0
    numbers[3, 3] = np.nan
    write_numbers(tmp_path / "a.jpg", numbers, "depth")
    assert read_depth(tmp_path / "a.jpg", 20, 30)[3, 3] == pytest.approx(2 / 3, rel=1e-3)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="depth is written beside photographs"):
        write_numbers(tmp_path / "file" / "a.jpg", numbers, "depth")


# ---- LiDAR


@pytest.fixture(scope="module")
def nuscenes(tmp_path_factory):
    return make_nuscenes(tmp_path_factory.mktemp("nuscenes"), scenes=3, lidar=True)


def test_points_of_a_street_are_where_the_camera_sees_them(nuscenes):
    sweeps = find_sweeps(nuscenes)
    assert sorted(path.name for path in sweeps) == ["t00.jpg", "t10.jpg", "t20.jpg"]
    width, height = SIZES["nuscenes"]
    depth = complete(project_sweep(next(iter(sweeps.values())), height, width))
    assert depth.shape == (225, 400)
    assert depth[100, 200] == pytest.approx(30, rel=0.01)  # the wall ahead
    focal, row = 1266.4 / 4, 200
    assert depth[row, 200] == pytest.approx(1.8 * focal / (row + 0.5 - 112.5), rel=0.03)  # the road
    assert np.isfinite(depth).all()
    assert depth.min() > 0


def test_the_pose_of_each_sensor_counts(nuscenes, tmp_path):
    moved = copytree(nuscenes, tmp_path / "moved")
    for name, key, shift in (("calibrated_sensor", "lidar", [0, 0, 5.0]), ("ego_pose", "pose", [3.0, 0, 0])):
        table = moved / "v1.0-mini" / f"{name}.json"
        rows = json.loads(table.read_text())
        next(row for row in rows if row["token"] == key)["translation"] = shift
        table.write_text(json.dumps(rows))
    before, after = (next(iter(find_sweeps(root).values())) for root in (nuscenes, moved))
    shift = np.zeros((4, 4))
    shift[2, 3] = 5.0  # that of the LiDAR; the car's own is the same for both sensors
    np.testing.assert_allclose(after.to_camera - before.to_camera, shift)


def test_a_nearer_point_hides_a_farther_one(nuscenes):
    sweep = next(iter(find_sweeps(nuscenes).values()))
    points = np.zeros((2, 5), np.float32)
    points[:, 2] = 20, 9
    file = nuscenes / "two.bin"
    points.tofile(file)
    depth = project_sweep(replace(sweep, points=file), 900, 1600)
    assert depth[depth > 0].tolist() == [9]


@pytest.mark.engine
def test_nuscenes_gets_depth_from_lidar_and_needs_no_network(tmp_path, capsys):
    root = make_nuscenes(tmp_path, scenes=2, lidar=True)
    estimate.run(load("depth", [f"photos=nuscenes:{root}", "depth.cpus=0.5"]))
    assert "2 get it from LiDAR, 0 from" in capsys.readouterr().out
    for photo in (root / "samples/CAM_FRONT").glob("*.jpg"):
        assert find_depth(photo).name.endswith(".depth.png")
        depth = read_depth(photo, 900, 1600)
        assert depth[400, 800] / depth[880, 800] == pytest.approx(30 / (1.8 * 1266.4 / 430), rel=0.05)


def test_the_paper_s_track_refuses_to_begin_without_depth_and_says_how_to_get_it(tmp_path):
    for number, split in enumerate(("train", "val", "test")):
        place(number, tmp_path / split / f"{number}.jpg")
    config = load("corpus", ["track=qwen3vl_8b", f"photos={tmp_path}"])
    with pytest.raises(UserError, match=r"3 of 3 photographs have no depth.*duvlm run depth photos="):
        build.plan(config)
