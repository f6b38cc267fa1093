"""Foreign pages, foreign names and callers without the token are refused; every answer says how it may be used."""

import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from ray import serve

from service.web.app import PAGE, Ingress, app
from service.web.description import Answer, DegradationKind, Health
from service.web.pages import render_routes
from service.web.security import ACCESS, Access, Guard, page_headers


@pytest.fixture
def client():
    app = FastAPI()
    app.add_middleware(Guard, headers=page_headers(PAGE))

    @app.get("/")
    async def root():
        return {"served": True}

    ACCESS.allow(("photos.example",), "")
    yield TestClient(app, base_url="http://127.0.0.1")
    ACCESS.allow((), "")


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000", "PHOTOS.example:8000"])
def test_names_of_this_machine_and_allowed_ones_are_served(client, host):
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:8000"])
def test_foreign_names_are_refused(client, host):
    assert client.get("/", headers={"Host": host}).status_code == 421


def test_pages_of_other_sites_may_not_call(client):
    assert client.get("/", headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.get("/", headers={"Origin": "null"}).status_code == 403
    assert client.get("/", headers={"Origin": "http://localhost:8000"}).status_code == 200


def test_a_token_is_asked_for_where_one_is_set(client):
    ACCESS.allow((), "secret")
    assert client.get("/").status_code == 401
    assert client.get("/", headers={"X-DUVLM-Token": "wrong"}).status_code == 401
    assert client.get("/", headers={"X-DUVLM-Token": "secret"}).status_code == 200
    assert client.get("/?token=secret").status_code == 200


def test_a_service_for_everybody_answers_to_any_name_but_not_for_foreign_pages():
    access = Access()
    access.allow(("*",), "")
    assert access.refusal({"host": "any.example", "origin": "http://any.example"}, {}) is None
    assert access.refusal({"host": "any.example", "origin": "http://evil.example"}, {})[0] == 403


def test_a_service_on_every_address_answers_to_numbers_and_its_own_names_alone():
    access = Access()
    access.allow(("0.0.0.0", "machine"), "")
    for host in ("192.168.1.5:8000", "[fe80::1]:8000", "machine:8000"):
        assert access.refusal({"host": host, "origin": f"http://{host}"}, {}) is None
    assert access.refusal({"host": "rebound.example:8000"}, {})[0] == 421
    assert access.refusal({"host": "192.168.1.5:8000", "origin": "http://10.0.0.9"}, {})[0] == 403


def test_every_answer_has_its_headers(client):
    for reply in (client.get("/"), client.get("/", headers={"Host": "evil.example"})):
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
        assert "'sha256-" in reply.headers["Content-Security-Policy"]


@pytest.fixture(scope="module")
def schema() -> dict:
    """What /openapi.json says once the routes are those of a deployment."""
    serve.ingress(app)(Ingress)
    return app.openapi()


def test_the_routes_are_described_without_any_other_host(schema):
    page = render_routes(schema)
    for route in ("/api/read", "/api/restore", "/api/degrade"):
        assert route in page
    assert "<script" not in page
    assert "src=" not in page
    assert not re.search(r"https?://(?!127\.0\.0\.1)", page)


def test_every_route_has_an_example_of_what_it_takes_and_answers(schema):
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            assert all(each["schema"]["examples"] for each in route.get("parameters", ())), path
            (kind, answer), *_ = route["responses"]["200"]["content"].items()
            assert kind == "image/png" or answer["example"]
            assert method == "get" or route["requestBody"]["content"]["image/jpeg"]


def test_examples_are_what_the_routes_answer(schema):
    for path, model in (("/api/health", Health), ("/api/taxonomy", DegradationKind), ("/api/read", Answer)):
        (route,) = schema["paths"][path].values()
        example = route["responses"]["200"]["content"]["application/json"]["example"]
        for one in example if isinstance(example, list) else [example]:
            assert set(model.model_validate(one).model_dump()) == set(one)
