"""Models by their name on the Hugging Face Hub, in place of a folder."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from configs.errors import UserError

FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model", "*.bin", "*.md")
"""What a model consists of."""
_NAME = r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?"


def model_folder(name: str, setting: str) -> Path:
    """Finds the folder of a model: the one of this name, or a copy of the repository OWNER/NAME of the Hub.

    The driver calls it before a job's actors start: what is not here yet is downloaded into the cache of the Hub. The
    actors have HF_HUB_OFFLINE=1, so that for them it is the copy in the cache.

    Args:
        name: a folder, or OWNER/NAME, or OWNER/NAME@REVISION with a branch, a tag or a commit.
        setting: key of the setting that names it, for the error.

    Returns:
        The folder; where `name` is neither a folder nor looks like OWNER/NAME, the path as it was given.

    Raises:
        UserError: it is no folder, and the Hub has no such model or cannot be asked.
    """
    folder = Path(name).expanduser()
    is_file = folder.suffix in (".pt", ".pth", ".jsonl")
    named = split_name(name)
    if folder.exists() or is_file or not named:
        return folder
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return _copy(*named)
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.HTTPError, OSError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        raise UserError(
            f"{setting}={name}: there is no such folder, no copy in the cache of the Hugging Face Hub, and the Hub "
            f"could not be asked for it ({reason}); name a folder, or run it once where the Hub can be reached"
        ) from None


def split_name(name: str) -> tuple[str, str | None] | None:
    """Splits OWNER/NAME@REVISION into (OWNER/NAME, REVISION or None); None where it is no name of the Hub."""
    parts = re.fullmatch(_NAME, name)
    return (parts[1], parts[2]) if parts else None


@cache
def _copy(repository: str, revision: str | None) -> Path:
    """The folder in the cache; the Hub is asked once a process, so that all of a job reads one revision."""
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repository, revision=revision, allow_patterns=FILES, etag_timeout=10))
