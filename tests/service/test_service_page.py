"""What docs/service.md shows is typed against a running service."""

import json
import re
import subprocess
from pathlib import Path
from urllib.request import urlopen

import pytest
from PIL import Image

pytestmark = pytest.mark.engine
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "service.md").read_text()


@pytest.fixture
def place(blurred, tmp_path, monkeypatch) -> Path:
    """A folder with photo.jpg in it."""
    Image.fromarray(blurred).save(tmp_path / "photo.jpg", quality=97)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(language: str, service: str) -> list[str]:
    written = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return [block.replace("http://127.0.0.1:8000", service) for block in written]


def test_the_commands_do_what_the_page_says(service, place):
    (commands,) = blocks("bash", service)
    done = subprocess.run(["bash", "-euc", commands], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    health, end = json.JSONDecoder().raw_decode(done.stdout)
    read = json.loads(done.stdout[end:])
    assert health["ready"]
    assert read["degradation"]["type"]
    assert "x-action: " in (place / "headers.txt").read_text().lower()
    assert Image.open(place / "restored.png").size == Image.open(place / "blurred.png").size == (128, 128)


def test_the_client_is_ten_lines_and_works(service, place, capsys):
    client, use = blocks("python", service)
    body = client.partition("class Client")[2]
    assert len([line for line in ("class Client" + body).splitlines() if line.strip()]) <= 10
    names: dict = {}
    exec(client + use, names)
    assert Image.open(place / "restored.png").size == (128, 128)
    assert names["restored"].action in ("restored", "left")
    assert names["restored"].degradation["type"] in capsys.readouterr().out


def test_the_readme_calls_it_so(service, place):
    (command,) = re.findall(r"curl .*", (ROOT / "README.md").read_text())
    command = command.replace("http://127.0.0.1:8000", service).replace("PHOTO.jpg", "photo.jpg")
    subprocess.run(["bash", "-euc", command], check=True, capture_output=True, timeout=100)
    assert Image.open(place / "restored.png").size == (128, 128)


def test_each_command_of_the_routes_page_is_answered(service, place):
    page = urlopen(f"{service}/docs").read().decode()
    for block in re.findall(r"<pre tabindex=\"0\">(curl.*?)</pre>", page, re.DOTALL):
        command = block.replace("&#39;", "'").replace("&#34;", '"').replace("&amp;", "&")
        command = command.replace("http://127.0.0.1:8000", service).replace("curl", "curl -fsS")
        subprocess.run(["bash", "-euc", command], check=True, capture_output=True, timeout=100)
    described = json.load(urlopen(f"{service}/openapi.json"))
    assert not [each for way in described["paths"].values() for route in way.values()
                for each in route.get("parameters", ()) if each["name"] == "self"]  # fmt: skip
