"""`duvlm publish FOLDER OWNER/NAME`: puts a policy, a prior or a corpus on the Hugging Face Hub, if it is whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs import manifest
from configs.errors import UserError
from configs.files import read_json
from configs.hub.cards import make_card
from configs.hub.fetch import split_name
from configs.verify import verify


@dataclass(frozen=True)
class About:
    """Says what the files themselves do not: licence and data sets as the Hub names them, and the folder of an
    evaluation whose numbers the card shows."""

    licence: str = ""
    datasets: Sequence[str] = ()
    evaluation: str = ""


def publish(folder: Path, name: str, about: About | None = None, private: bool = False) -> str:
    """Uploads a folder in one commit, and returns the address of that.

    What the project wrote is sent, as its manifest has it, and README.md: that of the folder, or one that is made. The
    repository is created where there is none. $HF_TOKEN or `hf auth login` says who sends it, HF_ENDPOINT where to.

    Args:
        folder: of a policy, a prior or a corpus.
        name: OWNER/NAME, or OWNER/NAME@BRANCH.
        private: a new repository is not shown to others.

    Raises:
        UserError: it is no such folder, it is damaged, or the Hub refuses or cannot be reached.
    """
    folder, about = Path(folder), about or About()
    named, kind = split_name(name), manifest.kind_of(folder)
    if named is None:
        raise UserError(f"publish: expected a name on the Hub, OWNER/NAME, got {name!r}")
    foreign = kind == "policy" and not (folder / "world.json").is_file()
    if kind not in ("policy", "prior", "corpus") or foreign:
        raise UserError(f"publish: expected a policy, a prior or a corpus that duvlm wrote, got {folder}")
    if not verify(folder):
        raise UserError(f"publish: {folder} is damaged, see above: nothing was sent")
    written = manifest.read(folder)
    names = {*written.files, manifest.NAME} if written else set(manifest.listing(folder))
    content: dict[str, str | bytes] = {file: str(folder / file) for file in names if (folder / file).is_file()}
    if (folder / "README.md").is_file():
        content["README.md"] = str(folder / "README.md")
    else:
        evaluation = read_json(Path(about.evaluation) / "summary.json") if about.evaluation else None
        content["README.md"] = make_card(folder, kind, named[0], about.licence, about.datasets, evaluation).encode()
    return _send(*named, "dataset" if kind == "corpus" else "model", content, private)


def _send(name: str, branch: str | None, kind: str, content: dict[str, str | bytes], private: bool) -> str:
    """Commits files, {name there: file here or bytes}; returns the address of the commit."""
    import httpx
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    hub = HfApi()
    added = [CommitOperationAdd(path, data) for path, data in sorted(content.items())]
    try:
        hub.create_repo(name, repo_type=kind, private=private, exist_ok=True)
        if branch:
            hub.create_branch(name, branch=branch, repo_type=kind, exist_ok=True)
        done = hub.create_commit(name, added, commit_message="Publish with duvlm", repo_type=kind, revision=branch)
    except (HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled, httpx.HTTPError, OSError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:160]
        raise UserError(
            f"publish: the Hub did not take {name} ({reason}); sign in with `hf auth login` or HF_TOKEN, and see that "
            f"{hub.endpoint} can be reached; it has all of it or nothing"
        ) from None
    return done.commit_url
