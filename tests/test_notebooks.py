"""The notebooks of docs/notebooks, kept as scripts: each becomes one and runs in a kernel, as people run it."""

import os
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
PICTURES = {"photographs": 3, "training": 3, "rewards": 4}


def test_every_notebook_is_run_here_and_linked_where_people_look():
    assert {file.stem for file in (ROOT / "docs/notebooks").glob("*.py")} == set(PICTURES)
    for page in ("docs/index.md", "README.md"):
        assert all(f"notebooks/{name}.py" in (ROOT / page).read_text() for name in PICTURES)


@pytest.mark.engine
@pytest.mark.parametrize("name", PICTURES)
def test_a_notebook_runs_and_shows_its_pictures(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = jupytext.read(ROOT / "docs" / "notebooks" / f"{name}.py")
    nbformat.validate(notebook)
    kernel = NotebookClient(notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    kernel.execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    assert sum("image/png" in output["data"] for output in shown) == PICTURES[name]
    assert list(tmp_path.iterdir()) == []  # whoever tries one keeps a clean folder
