"""The camera matrix of low light: it can be read off the picture, and undone."""

import numpy as np
import pytest
import torch

from envs.degradations import closed_form, degrade, low_light, project, sample
from envs.environment import OfflineEnvironment
from envs.language.answer import Answer, parse, rationale, write
from envs.metrics import measure
from envs.taxonomy import TAXONOMY, taxonomy
from envs.types import Completion, Prompt, RewardQuery

torch.set_num_threads(1)
WORLD = taxonomy(camera=True)
RGB_TO_XYZ = low_light.RGB_TO_XYZ.astype(np.float64)


def seen_through(camera):
    matrix = np.array(camera) @ RGB_TO_XYZ
    return matrix / matrix.sum(1, keepdims=True)


def as_batch(photo):
    return torch.tensor(photo).permute(2, 0, 1)[None].float() / 255


def dark(seed, **values):
    drawn = sample(WORLD, "low_light", np.random.default_rng(seed), 128)
    return WORLD.degradation("low_light", {**drawn.as_dict()["values"], **values})


def least_squares(x, y, gamma, gain):
    """The 3x3 matrix that best explains y from x; pixels clipped at either end are no evidence."""
    linear = (x[0].double() ** gamma).reshape(3, -1).numpy()
    seen = y[0].double().reshape(3, -1).numpy() / gain
    used = (seen > 0.5 / 255 / gain).all(0) & (seen < 254.5 / 255 / gain).all(0)
    return np.linalg.lstsq(linear[:, used].T, seen[:, used].T, rcond=None)[0].T


@pytest.mark.parametrize("seed", range(6))
def test_least_squares_on_a_picture_and_its_original_recovers_the_matrix(photo, seed):
    """To the grid's half step where the picture uses its 256 levels; to a few steps at the gains of night."""
    x = as_batch(photo)
    for gain, tolerance in ((0.9, 0.005), (0.1, 0.04)):
        truth = dark(seed, gain=gain, gamma=2.2)
        found = least_squares(x, degrade(x, [truth]), truth["gamma"], truth["gain"])
        assert np.abs(found - seen_through(truth["camera"])).max() < tolerance


def test_a_mixture_of_the_known_cameras_is_determined_by_the_matrix_it_makes():
    """Rows of the camera show only up to their scale; that the law draws mixtures settles the scale."""
    for seed in range(10):
        camera = np.array(dark(seed)["camera"])
        rows = seen_through(camera) @ np.linalg.inv(RGB_TO_XYZ)
        system, right = np.zeros((10, 7)), np.zeros(10)  # sum_k w_k C_k[i] = s_i rows[i], sum_k w_k = 1
        for i in range(3):
            for j in range(3):
                system[3 * i + j, :4] = low_light.CAMERAS[:, i, j]
                system[3 * i + j, 4 + i] = -rows[i, j]
        system[9, :4], right[9] = 1, 1
        assert np.linalg.matrix_rank(system) == 7
        weights = np.linalg.lstsq(system, right, rcond=None)[0][:4]
        assert np.abs(np.tensordot(weights, low_light.CAMERAS, 1) - camera).max() < 0.05


def test_two_cameras_give_two_pictures(photo):
    x = as_batch(photo)
    pictures = [degrade(x, [dark(0, camera=camera.tolist(), gain=0.5)]) for camera in low_light.CAMERAS]
    for i, one in enumerate(pictures):
        assert all((one - other).abs().max() > 3 / 255 for other in pictures[i + 1 :])


def test_without_quantisation_the_camera_is_undone_exactly(photo):
    x = as_batch(photo)
    for seed in range(4):
        values = {key: torch.tensor([value]) for key, value in dark(seed, gain=0.9).values}
        y = low_light.PHENOMENON.degrade(x.double(), {key: value.double() for key, value in values.items()})
        inverse = torch.linalg.inv(torch.tensor(seen_through(dark(seed, gain=0.9)["camera"])))
        linear = torch.einsum("ij,bjhw->bihw", inverse, y / values["gain"].double())
        torch.testing.assert_close(linear, x.double() ** values["gamma"].double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("gain", [0.1, 0.9])
def test_knowing_the_camera_restores_better_than_not_knowing_it(photo, gain):
    x = as_batch(photo)
    for seed in range(4):
        truth = dark(seed, gain=gain)
        blind = TAXONOMY.degradation("low_light", {"gamma": truth["gamma"], "gain": truth["gain"]})
        y = degrade(x, [truth])
        with_camera, without = ((closed_form(y, [d]) - x).square().mean() for d in (truth, blind))
        assert with_camera < without


def test_a_projection_through_the_camera_explains_the_picture(photo):
    x = as_batch(photo)
    for seed in range(4):
        truth = dark(seed, gain=0.5)
        y = degrade(x, [truth])
        found = project(x.flip(-1), y, [truth], torch.tensor([1.0]))
        assert ((degrade(found, [truth]) - y) * 255).abs().quantile(0.99) <= 1.01


def test_the_camera_goes_through_answer_gate_and_measures():
    truth, answer = dark(1), dark(2)
    text = write(truth, WORLD)
    assert text.startswith(rationale(truth) + "[T-low_light][K-camera]")
    assert text.count("[V-") == 11
    assert parse(text, WORLD) == Answer(truth, rationale(truth))
    prompt = Prompt("s", None)
    judge = OfflineEnvironment([prompt], {"s": truth}, WORLD).judge
    assert isinstance(judge(prompt, Completion(write(answer, WORLD), (), ())), RewardQuery)
    two_keys = write(answer, WORLD).replace("[K-camera]", "").replace("[V-", "[K-gamma][V-", 1)
    assert not isinstance(judge(prompt, Completion(two_keys, (), ())), RewardQuery)
    errors = measure([truth], [answer], WORLD).keys["camera"]
    difference = np.abs(np.array(truth["camera"]) - np.array(answer["camera"]))
    assert errors["p_abs"] == pytest.approx(difference.mean())
    assert errors["p_rel"] == pytest.approx(difference.sum() / np.abs(truth["camera"]).sum())


def test_without_the_camera_key_low_light_has_two_keys_and_the_identity():
    assert [key.name for key in TAXONOMY["low_light"].keys] == ["gamma", "gain"]
    assert "camera" not in dict(sample(TAXONOMY, "low_light", np.random.default_rng(0), 128).values)
