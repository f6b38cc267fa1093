"""The settings as text, made from the schema: `duvlm run --help` and docs/configuration.md."""

from __future__ import annotations

from configs.load import leaves


def settings() -> list[tuple[str, str, str, str]]:
    """(key, default, allowed values, sentence) of every setting."""
    rows = []
    for key, field, kind in leaves():
        default = field.default_factory() if callable(field.default_factory) else field.default
        low, high, choices = (field.metadata[name] for name in ("low", "high", "choices"))
        allowed = f"{low} .. {high}" if low is not None else {str: "text", bool: "true, false"}.get(kind, "")
        rows.append((key, _written(default), ", ".join(choices) or allowed, field.metadata["help"]))
    return rows


def as_help() -> str:
    """For a terminal: two lines a setting."""
    rows = settings()
    return "\n".join(f"  {key}={default}  ({allowed})\n      {text}" for key, default, allowed, text in rows)


def as_markdown() -> str:
    """For docs/configuration.md: one table."""
    rows = [
        f"| `{key}` | {f'`{value}`' if value else ''} | {allowed} | {text} |"
        for key, value, allowed, text in settings()
    ]
    return "\n".join(["| setting | default | allowed | what it is |", "|---|---|---|---|", *rows]) + "\n"


def _written(default) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return f"[{','.join(map(str, default))}]" if isinstance(default, list) else str(default)


if __name__ == "__main__":
    from pathlib import Path

    page = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
    head = page.read_text().partition("| setting |")[0]
    page.write_text(head + as_markdown())
