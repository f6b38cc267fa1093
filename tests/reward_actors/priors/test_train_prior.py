import json

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from PIL import Image

from configs import UserError, load
from configs import run_folders as runs
from envs.corpus.photos import find_photos
from reward_actors.priors import train as prior
from reward_actors.priors.load import load_prior
from reward_actors.training import save_checkpoint


@pytest.fixture
def photos(tmp_path, photo):
    for split in ("train", "test"):
        folder = tmp_path / "photos" / split
        folder.mkdir(parents=True)
        for turn in range(2):
            Image.fromarray(np.rot90(photo, turn + 2 * (split == "test")).copy()).save(folder / f"{split}{turn}.png")
    return tmp_path / "photos"


@pytest.mark.slow
def test_the_prior_job_trains_resumes_and_leaves_a_prior_that_restorers_load(photos, tmp_path):
    """Slow: a few steps of a real network."""
    arguments = [f"photos={photos}", f"out={tmp_path}/out"]
    prior.run(load("prior", [*arguments, "steps=2"]))
    prior.run(load("prior", [*arguments, "steps=3"]))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["steps"] == 3
    assert not any("test" in name for name in summary["photos"])
    trained = load_prior(str(tmp_path / "out" / "prior"), 128)
    assert trained.eps(torch.zeros(1, 3, 128, 128), torch.tensor([10])).isfinite().all()
    prior.run(load("prior", [*arguments, "steps=1", "resume=false"]))
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["steps"] == 1


def test_the_prior_never_sees_the_test_photos_of_a_corpus_with_its_seed(tmp_path, monkeypatch):
    for number in range(20):
        noise = np.random.default_rng(number).integers(0, 256, (70, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
    kept = {seed: {str(p.path) for p in find_photos(str(tmp_path), seed) if p.split != "test"} for seed in (0, 1)}
    assert kept[0] != kept[1]
    seen = []
    monkeypatch.setattr(prior.Crops, "__init__", lambda self, paths, seed: seen.append(set(paths)))
    monkeypatch.setattr(prior.PriorTrainer, "train", lambda self, x: pytest.fail("nothing is to be trained"))
    monkeypatch.setattr(prior.PriorTrainer, "load", lambda self, folder: setattr(self, "step", self.steps))
    for seed in kept:
        prior.run(load("prior", [f"photos={tmp_path}", f"out={tmp_path}/out", f"seed={seed}", "steps=1"]))
    assert seen == [kept[0], kept[1]]


def test_a_prior_under_way_is_listed_and_can_be_resumed(tmp_path, monkeypatch):
    out = tmp_path / "first" / "prior"
    monkeypatch.setattr(prior, "_train", lambda config, out: (out / "metrics.jsonl").write_text('{"step": 50}\n'))
    prior.run(load("prior", [f"out={out}", "steps=0", "seed=3"]))
    assert list(runs.listing(tmp_path)) == [(str(out), f"step 50 of {prior.STEPS}")]
    job, config = runs.reopen(out)
    assert (job, config.seed, config.resume) == ("prior", 3, True)


def test_a_resumed_trainer_takes_the_same_step(tmp_path):
    x = torch.rand(4, 3, 16, 16)
    trainer = prior.PriorTrainer(10, 1e-3, seed=0)
    trainer.train(x)
    save_checkpoint(tmp_path / "checkpoint.pt", trainer.state_dict())
    again = prior.PriorTrainer(10, 1e-3, seed=1)
    again.load(tmp_path / "checkpoint.pt")
    assert again.train(x) == pytest.approx(trainer.train(x), abs=1e-7)
    pairs = zip(again.average.shadow_params, trainer.average.shadow_params, strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert again.schedule.get_last_lr() == trainer.schedule.get_last_lr()


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path):
    trainer, file = prior.PriorTrainer(10, 1e-3, seed=0), tmp_path / "checkpoint.pt"
    trainer.step = 7
    save_checkpoint(file, trainer.state_dict())
    with pytest.raises(ZeroDivisionError):
        save_checkpoint(file, {"step": 8, "broken": Unwritable()})
    trainer.step = 0
    trainer.load(file)
    assert trainer.step == 7


class Unwritable:
    def __reduce__(self):
        raise ZeroDivisionError


def test_the_exported_prior_is_small_and_a_diffusers_folder(tmp_path):
    prior.PriorTrainer(10, 1e-3, seed=0).export(tmp_path)
    assert isinstance(UNet2DModel.from_pretrained(tmp_path), UNet2DModel)
    assert max(file.stat().st_size for file in tmp_path.iterdir()) < 12 * 2**20


def test_crops_follow_from_seed_and_index(tmp_path, photo):
    file = tmp_path / "a.png"
    Image.fromarray(photo).save(file)
    first, again = prior.Crops([str(file)], 3), prior.Crops([str(file)], 3)
    assert torch.equal(first.batch(5), again.batch(5))
    assert not torch.equal(first.batch(5), first.batch(6))
    assert first.batch(0).shape == (prior.BATCH, 3, prior.CROP, prior.CROP)


def test_no_photo_large_enough_is_told(tmp_path):
    with pytest.raises(UserError, match="photograph"):
        prior.Crops([str(tmp_path / "none.png")], 0)
