"""A person looks at a tenth of the corpus in a real browser, with the keyboard; what is rejected is drawn again."""

import json
import time

import pytest
from browser import CHROMIUM, browser

from configs import UserError
from configs.schema import Config
from envs.corpus import build, generate, review
from envs.corpus.reader import read_card

COUNT = 240


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("reviewed") / "corpus"
    recipe, skipped = build.plan(Config(count=COUNT, size=48))
    build.build(recipe, skipped, out)
    return out


@pytest.fixture(scope="module")
def fingerprint(folder):
    return read_card(folder)["recipe"]


def save(file, fingerprint, accepted=(), rejected=()):
    file.write_text(json.dumps({"corpus": fingerprint, "accepted": list(accepted), "rejected": list(rejected)}))
    return file


def test_a_tenth_is_picked_at_random_and_always_the_same():
    counts = {"train": 103_000, "val": 4_000, "test": 3_000}
    picked = review.pick(counts, seed=0)
    assert len(picked) == len(set(picked)) == 11_000
    assert picked == review.pick(counts, seed=0) != review.pick(counts, seed=1)
    assert 250 < sum(split == "test" for split, _ in picked) < 350
    assert review.pick(counts, seed=0, limit=7) == picked[:7]


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_a_person_reviews_with_the_keyboard_and_saves_a_file_the_build_honours(folder, tmp_path):
    sheets = tmp_path / "sheets"
    review.run(Config(corpus=str(folder), out=str(sheets)))
    with browser(tmp_path) as page:
        page.open(sheets / "sheet-01.html")
        assert page.ask("document.querySelector('#counts').textContent") == "0 accepted · 0 rejected · 24 to go"
        for picture in ("clean", "degraded"):
            page.wait(f"document.querySelector('#{picture}').naturalWidth === 48")
            assert page.ask(f"document.querySelector('#{picture}').getBoundingClientRect().width") > 300
        assert page.ask("document.documentElement.scrollHeight <= innerHeight")
        shown = page.ask("samples.map(sample => sample.id)")
        page.press("a", "r", "a", "ArrowLeft", "r", "ArrowRight", "a")
        assert page.ask("document.querySelector('.verdict').textContent") == "undecided"
        page.open(sheets / "sheet-01.html")  # closed and opened again: nothing is lost
        assert page.ask("document.querySelector('#counts').textContent") == "2 accepted · 2 rejected · 20 to go"
        page.press("u")
        assert page.ask("at") == 6
        page.press("s")
        saved = tmp_path / "downloads" / "reviews.json"
        _until(saved.exists)
        page.open(sheets / "index.html")
        assert "4 of 24 reviewed" in page.ask("document.querySelector('#sheets').textContent")
        assert page.errors == []
    found = json.loads(saved.read_text())
    assert found["rejected"] == [shown[1], shown[2]]
    assert found["accepted"] == [shown[0], shown[4]]
    before, _ = build.plan(Config(count=COUNT, size=48))
    after, _ = build.plan(Config(count=COUNT, size=48, reviews=str(saved)))
    for sample_id in shown[:6]:
        split, index = sample_id.split("-")
        same = generate.row(before, split, int(index)) == generate.row(after, split, int(index))
        assert same == (sample_id not in found["rejected"])


@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
def test_several_sheets_are_saved_as_one_file(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(review, "SHEET", 10)
    review.run(Config(corpus=str(folder), out=str(tmp_path / "sheets")))
    assert len(list((tmp_path / "sheets").glob("sheet-*.html"))) == 3
    with browser(tmp_path) as page:
        for number, key in ((1, "a"), (3, "r")):
            page.open(tmp_path / "sheets" / f"sheet-{number:02d}.html")
            page.press(key)
        page.open(tmp_path / "sheets" / "index.html")
        page.ask("document.querySelector('#save').click()")
        _until((tmp_path / "downloads" / "reviews.json").exists)
    found = review.read_reviews(str(tmp_path / "downloads" / "reviews.json"))[0]
    assert (len(found.accepted), len(found.rejected)) == (1, 1)


def test_a_second_round_reviews_the_corpus_that_came_of_the_first(fingerprint, tmp_path):
    first = save(tmp_path / "1.json", fingerprint, rejected=["train-0000005"])
    also = save(tmp_path / "1b.json", fingerprint, rejected=["train-0000009"])
    once = build.plan(Config(count=COUNT, size=48, reviews=f"{first},{also}"))[0]
    second = save(tmp_path / "2.json", once.fingerprint(), rejected=["train-0000005"])
    twice = build.plan(Config(count=COUNT, size=48, reviews=f"{second},{first},{also}"))[0]
    assert once.rejected == {"train-0000005": 1, "train-0000009": 1}
    assert twice.rejected == {"train-0000005": 2, "train-0000009": 1}
    rows = {generate.row(r, "train", 5)["clean"] for r in (build.plan(Config(count=COUNT, size=48))[0], once, twice)}
    assert len(rows) == 3


def test_a_review_of_another_corpus_is_refused(fingerprint, tmp_path):
    file = save(tmp_path / "reviews.json", fingerprint)
    with pytest.raises(UserError, match=fingerprint):
        build.plan(Config(count=COUNT, size=48, seed=1, reviews=str(file)))


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"corpus": "x", "accepted": [1], "rejected": []}', b"\xff"])
def test_a_damaged_review_is_the_users_error(tmp_path, content):
    if content is not None:
        (tmp_path / "reviews.json").write_bytes(content)
    with pytest.raises(UserError, match="reviews="):
        review.read_reviews(str(tmp_path / "reviews.json"))


def test_sheets_do_not_overwrite_other_things(folder, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds other things"):
        review.run(Config(corpus=str(folder), out=str(tmp_path)))


def _until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
