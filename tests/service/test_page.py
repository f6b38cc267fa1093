"""A person at the page of the service: in a real browser, with its keyboard, and as a screen reader has it."""

import importlib.util
import io
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, browser
from PIL import Image
from skimage import data

from envs.corpus.generate import encode

pytestmark = [pytest.mark.engine, pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")]
SIGMA = 2.0
ORIENTATION, MAKE = 0x0112, 0x010F
FOCUS = """(() => {
    const it = document.activeElement;
    const ring = it.id === "cut" ? getComputedStyle(document.querySelector("#bar"), "::after") : getComputedStyle(it);
    return it === document.body ? null : [it.id || it.textContent.trim(), ring.outlineStyle];
})()"""
"""What has the focus, and how that is shown."""


@pytest.fixture
def page(service, tmp_path):
    with browser(tmp_path) as page:
        page.call("Network.enable")
        page.call("Log.enable")
        page.open(service)
        page.wait("document.querySelector('#type')?.options.length >= 4")
        yield page
        assert not page.errors


@pytest.fixture
def file(blurred, tmp_path) -> Path:
    place = tmp_path / "blurred.png"
    place.write_bytes(encode(blurred))
    return place


@pytest.fixture
def album(blurred, tmp_path) -> list[Path]:
    """Two photographs, one of them taken on its side, a file that is damaged, and one that is no picture."""
    folder = tmp_path / "album"
    folder.mkdir()
    tags = Image.Exif()
    tags[ORIENTATION], tags[MAKE] = 6, "Maker"
    Image.fromarray(blurred[:96]).save(folder / "one.jpg", quality=95, exif=tags)
    Image.fromarray(np.ascontiguousarray(data.camera()[100:228, 100:300])).save(folder / "two.png")
    (folder / "three.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("left alone")
    return sorted(folder.iterdir())


def change(page, field: str, value: str, event: str) -> None:
    act = f"f.value = '{value}'; f.dispatchEvent(new Event('{event}'));"
    page.ask(f"{{ const f = document.querySelector('{field}'); {act} }}")


def text(page, field: str) -> str:
    return page.ask(f"document.querySelector('{field}').textContent")


def restored(page) -> None:
    page.wait("document.querySelector('#restored').naturalWidth === 128 && !document.querySelector('#cut').hidden", 90)


def test_a_picture_is_read_and_restored_and_a_slider_moved(page, file):
    page.choose("#file", file)
    restored(page)
    assert "blur" in text(page, "#answer")
    assert abs(float(page.ask("document.querySelector('#key-sigma').value")) - SIGMA) < 0.6
    assert "90 %" in text(page, "#interval-sigma")
    assert "sure of the type" in text(page, "#answer")
    assert page.ask("document.querySelector('#override').hidden")
    first = page.ask("document.querySelector('#restored').src")
    change(page, "#key-sigma", "5", "input")
    page.wait(f"document.querySelector('#restored').src !== '{first}'", seconds=60)
    change(page, "#type", "haze", "change")
    page.wait("document.querySelector('#key-transmission') !== null")


def test_a_file_that_is_no_picture_is_named_so(page, tmp_path):
    place = tmp_path / "notes.png"
    place.write_text("not a picture")
    page.choose("#file", place)
    page.wait("document.querySelector('#status.wrong') !== null")
    assert "expected a picture" in text(page, "#status")


def test_before_and_after_are_compared_by_keys_and_by_dragging(page, file):
    page.choose("#file", file)
    restored(page)
    shown = "getComputedStyle(document.querySelector('#restored')).clipPath"
    page.ask("document.querySelector('#cut').focus()")
    page.press("Home")
    assert page.ask(shown) == "inset(0px 0px 0px 0%)"
    page.press("ArrowRight", "ArrowRight", "PageUp")
    assert page.ask(shown) == "inset(0px 0px 0px 11%)"
    assert page.ask("document.querySelector('#cut').getAttribute('aria-valuetext')") == "11 % before, 89 % after"
    page.press("End")
    assert page.ask(shown) == "inset(0px 0px 0px 100%)"
    box = page.ask("(({x, y, width, height}) => ({x, y, width, height}))(cut.getBoundingClientRect())")
    where = {"y": box["y"] + box["height"] / 2, "button": "left", "buttons": 1, "clickCount": 1}
    for kind, share in (("mousePressed", 0.9), ("mouseMoved", 0.25), ("mouseReleased", 0.25)):
        page.call("Input.dispatchMouseEvent", type=kind, x=box["x"] + share * box["width"], **where)
    assert abs(float(page.ask("cut.value")) - 25) < 1


def test_many_are_answered_one_by_one_and_taken_away_as_a_zip(page, album, tmp_path):
    page.choose("#file", *album)
    page.wait("document.querySelector('#progress').value === 3", seconds=120)
    assert page.ask("document.querySelector('#progress').max") == 3
    status = text(page, "#batch-status")
    assert status.startswith("3 of 3 done")
    assert "1 failed" in status
    assert status.endswith("other files, left out: 1")
    rows = page.ask("[...document.querySelectorAll('#rows tr')].map(row => row.textContent)")
    assert "expected a picture" in next(row for row in rows if "three.png" in row)
    page.ask("document.querySelector('#zip').click()")
    page.wait("document.querySelector('#rows').textContent.includes('in the zip')")
    place, end = tmp_path / "downloads" / "restored.zip", time.monotonic() + 20
    while not place.exists():
        assert time.monotonic() < end, "no zip came"
        time.sleep(0.1)
    with zipfile.ZipFile(place) as taken:
        assert taken.testzip() is None
        assert sorted(taken.namelist()) == ["answers.json", "one.png", "two.png"]
        answers = {answer["image"]: answer for answer in json.loads(taken.read("answers.json"))}
        pictures = {name: Image.open(io.BytesIO(taken.read(name))) for name in ("one.png", "two.png")}
    assert pictures["one.png"].size == (96, 128)
    assert (pictures["one.png"].getexif()[ORIENTATION], pictures["one.png"].getexif()[MAKE]) == (1, "Maker")
    gray = np.asarray(pictures["two.png"].convert("RGB"))
    assert (gray == gray[..., :1]).all()
    for name, answer in answers.items():
        assert answer["file"] == Path(name).stem + ".png"
        assert answer["action"] in ("restored", "left")
        row = next(row for row in rows if name in row)
        assert answer["action"] in row
        assert answer["reason"] in row


def test_results_that_fill_their_room_wait_to_be_saved(page, album):
    page.ask("LIMIT = 10; 1")
    sound = [one for one in album if one.stem in ("one", "two")]
    page.choose("#file", *sound, *sound)
    page.wait("document.querySelector('#batch-status').textContent.includes('save the zip')", seconds=120)
    before = page.ask("document.querySelector('#progress').value")
    assert before < 4
    page.ask("document.querySelector('#zip').click()")
    page.wait(f"document.querySelector('#progress').value > {before}", seconds=60)


def test_a_folder_keeps_its_name_in_the_zip_and_no_two_pictures_one(page):
    names = page.ask("fileNames(['a/x.jpg', 'a/x.png', 'b/x.jpg', 'y.v2.jpg', 'y.v2.jpg'])")
    assert names == ["a/x.jpg.png", "a/x.png.png", "b/x.png", "y.v2.jpg.png", "y.v2.jpg (2).png"]


def test_every_control_is_reached_by_tab_seen_and_named(page, album):
    page.choose("#file", *[one for one in album if one.name != "notes.txt"])
    page.wait("document.querySelector('#progress').value === 3", seconds=120)
    page.choose("#file", album[1])
    page.wait("!document.querySelector('#controls').hidden", seconds=60)
    visible = page.ask(
        "[...document.querySelectorAll('button, a[href], select, input')].filter(it => it.offsetParent && !it.disabled)"
        ".map(it => it.id || it.textContent.trim())"
    )
    page.ask("document.activeElement.blur()")
    reached = {}
    for _ in range(3 * len(visible)):
        page.press("Tab")
        if focused := page.ask(FOCUS):
            reached[focused[0]] = focused[1]
    assert set(visible) <= set(reached)
    assert "none" not in reached.values(), "the focus must be seen"
    tree = [node for node in page.call("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    roles = {"button", "link", "slider", "combobox", "progressbar"}
    controls = [node for node in tree if node["role"]["value"] in roles]
    assert len(controls) >= len(visible)
    assert all(node["name"]["value"] for node in controls)
    assert sum(node["role"]["value"] == "status" for node in tree) == 3, "what changes is announced"


def test_pictures_are_chosen_with_the_keyboard(page):
    page.call("Page.setInterceptFileChooserDialog", enabled=True)
    for key in ("Enter", " "):
        page.ask("document.activeElement.blur()")
        page.events.clear()
        page.press("Tab", key)
        page.ask("new Promise(then => setTimeout(then, 300))")
        assert "Page.fileChooserOpened" in [method for method, _ in page.events]


def violations(page) -> list:
    """What axe finds wrong, or cannot decide."""
    script = Path(importlib.util.find_spec("axe_core_python").origin).with_name("axe.min.js")
    page.ask(script.read_text() + "; 1")
    run = "axe.run().then(r => ({bad: [...r.violations, ...r.incomplete].map(v => [v.id, v.nodes.map(n => n.html)]), "
    result = page.ask(run + "passes: r.passes.map(p => p.id)}))")
    assert {"color-contrast", "document-title"} <= set(result["passes"])
    return result["bad"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_anybody_out(page, service, album, scheme):
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    assert violations(page) == []
    page.choose("#file", *album)
    page.wait("document.querySelector('#progress').value === 3", seconds=120)
    page.choose("#file", album[1])
    page.wait("!document.querySelector('#controls').hidden", seconds=60)
    assert violations(page) == []
    page.ask("document.querySelector('#rows button').style = 'color: #777; background: #888'")
    assert "color-contrast" in [name for name, _ in violations(page)], "what checks must be able to fail"
    page.open(f"{service}/docs")
    assert violations(page) == []


def test_nothing_is_asked_of_another_host(page, service, file):
    page.choose("#file", file)
    restored(page)
    page.open(f"{service}/docs")
    page.wait("document.body.textContent.includes('/api/restore')")
    urls = [event["request"]["url"] for method, event in page.events if method == "Network.requestWillBeSent"]
    assert len(urls) >= 4
    assert all(url.startswith((service, f"blob:{service}", "data:")) for url in urls), urls
    refused = [event["entry"]["text"] for method, event in page.events if method == "Log.entryAdded"]
    assert refused == [], "the content security policy holds"
