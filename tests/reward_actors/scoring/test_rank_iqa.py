"""The network that ranks restorations without the truth."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from configs import UserError
from envs import degradations
from envs.corpus.generate import crop
from envs.corpus.photos import find_photos
from envs.pictures import read_picture
from envs.taxonomy import TAXONOMY
from envs.types import Sample
from reward_actors.scoring import rank_iqa
from reward_actors.scoring.scorer import score_batch, terms

UNSEEN = [photo for photo in find_photos("bundled") if photo.split != "train"]


def hazed(photo):
    """A hazy crop (1, 3, 128, 128), its restorations under the truth and under ever less transmission, and these."""
    square = crop(read_picture(photo.path), 128, np.random.default_rng(0))
    clean = torch.tensor(square).permute(2, 0, 1)[None] / 255
    answers = [TAXONOMY.degradation("haze", {"atmospheric_light": 0.8, "transmission": t}) for t in (0.5, 0.4, 0.3)]
    given = degradations.degrade(clean, answers[:1])
    return given, degradations.closed_form(given.expand(3, -1, -1, -1), answers), answers


@pytest.fixture(scope="module")
def hazy():
    return hazed(UNSEEN[0])


@pytest.mark.parametrize("photo", UNSEEN, ids=lambda photo: photo.photo_id)
def test_the_more_haze_is_taken_off_beyond_what_there_was_the_worse(photo):
    given, restored, _ = hazed(photo)
    said = rank_iqa.rank(restored, given.expand(3, -1, -1, -1)).tolist()
    assert said == sorted(said, reverse=True)
    assert said[0] > said[1] + 1


def test_a_rank_depends_on_both_pictures_and_not_on_the_batch(hazy):
    given, restored, _ = hazy
    together = rank_iqa.rank(restored, given.expand(3, -1, -1, -1))
    assert together.tolist() == [float(rank_iqa.rank(restored[i : i + 1], given)) for i in range(3)]
    assert not torch.allclose(rank_iqa.rank(restored, restored), together)  # the picture that was given counts


def test_it_is_a_term_that_needs_no_truth(hazy):
    given, restored, answers = hazy
    picture = (255 * given[0].permute(1, 2, 0)).round().to(torch.uint8).numpy()
    samples = [Sample("a", "photo", "", picture)] * 3
    pictures = [np.ascontiguousarray(one.permute(1, 2, 0).numpy()) for one in restored]
    found = score_batch(["rank_iqa:2"], pictures, samples, answers)
    assert [reward for reward, _ in found] == pytest.approx([2 * parts["rank_iqa"] for _, parts in found])
    assert found[0][0] > found[2][0]
    term = terms("rank_iqa")[0]
    assert (term.needs_truth, term.sign) == (False, 1)


def test_pictures_may_have_odd_sides_but_not_be_tiny():
    assert rank_iqa.rank(torch.rand(1, 3, 47, 65), torch.rand(1, 3, 47, 65)).isfinite().all()
    with pytest.raises(UserError, match="at least 32 px, got 16 x 40"):
        rank_iqa.rank(torch.rand(1, 3, 16, 40), torch.rand(1, 3, 16, 40))


def test_a_file_that_holds_something_else_is_refused(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name in ("other", "text", "missing"):
        with pytest.raises(UserError, match="is no network of `duvlm run fit-iqa`"):
            rank_iqa.load(str(tmp_path / f"{name}.safetensors"))
