"""What each role of `offline` holds in memory, with its arithmetic, as `--dry-run` prints it."""

from __future__ import annotations

from configs.cluster.memory import GB, Part, needs, table
from configs.schema import Config


def run(config: Config) -> dict:
    """Prints the table.

    Returns:
        {role: {"device": {part: GB}, "host": {part: GB}}} of one actor of each role.
    """
    listed = needs(config, "offline")
    print(table(listed, config.device_gb))
    return {
        need.role.name: {"device": _sizes(need.device), "host": _sizes((*need.host, *need.once))} for need in listed
    }


def _sizes(parts: tuple[Part, ...]) -> dict[str, float]:
    return {part.what: round(part.bytes / GB, 3) for part in parts}
