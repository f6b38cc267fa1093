"""Brings the pages that live beside what they describe (benchmarks, weights) into the site. Called by mkdocs."""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = {
    "benchmarks/README.md": "benchmarks.md",
    "learner/weights/policy/README.md": "policy.md",
    "reward_actors/weights/prior/README.md": "prior.md",
}


def on_files(files, config):
    """Adds the pages, links rewritten: to docs/X as X, to others of them by their names here."""
    for source, page in OUTSIDE.items():
        text = (ROOT / source).read_text()
        text = re.sub(r"\]\((?:\.\./)+docs/([^)]*)\)", r"](\1)", text)
        files.append(File.generated(config, page, content=_renamed(text, "")))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links to those pages by their names here."""
    return _renamed(markdown, "../" * page.file.src_uri.count("/"))


def _renamed(text: str, up: str) -> str:
    for source, page in OUTSIDE.items():
        text = re.sub(rf"\]\((?:\.\./)+{re.escape(source)}", f"]({up}{page}", text)
    return text
