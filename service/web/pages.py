"""Makes the pages of the service. Each is one answer, style and scripts inside: nothing is asked of another host."""

from __future__ import annotations

import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

_PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
_PAGES.filters["pretty"] = lambda value: json.dumps(value, indent=1, ensure_ascii=False)


def render_page() -> str:
    """Makes the page on which pictures are dropped."""
    return _PAGES.get_template("page.html").render()


def render_routes(schema: dict) -> str:
    """Makes a page of an OpenAPI description: every route, what it takes and answers, and a command that calls it."""
    routes = [
        {**route, "method": method.upper(), "path": path, "command": _command(method, path, route)}
        for path, methods in schema["paths"].items()
        for method, route in methods.items()
    ]
    described = {name: kind for name, kind in schema["components"]["schemas"].items() if "Validation" not in name}
    return _PAGES.get_template("docs.html").render(info=schema["info"], routes=routes, kinds=described)


def _type(schema: dict) -> str:
    """The type of a field in one or two words."""
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(repr(each) for each in schema["enum"])
    return f"{schema['type']} of {_type(schema['items'])}" if schema.get("items") else schema.get("type", "any")


_PAGES.filters["type_of"] = _type


def _command(method: str, path: str, route: dict) -> str:
    """The call of a route by curl, with the examples of its parameters."""
    needed = [each for each in route.get("parameters", ()) if each["required"]]
    given = [f"{each['name']}={each['schema']['examples'][0]}" for each in needed]
    address = f"'http://127.0.0.1:8000{path}{'?' if given else ''}{'&'.join(given)}'"
    if method == "get":
        return f"curl {address}"
    kept = " -o out.png" if "image/png" in route["responses"]["200"]["content"] else ""
    return f"curl -g{kept} --data-binary @photo.jpg \\\n  {address}"
