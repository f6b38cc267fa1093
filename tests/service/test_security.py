"""Foreign pages, foreign names and callers without the token are refused; every answer says how it may be used."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.app import PAGE, describe_routes
from service.security import ACCESS, Access, Guard, page_headers


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


def test_a_service_for_everybody_answers_to_any_name():
    access = Access()
    access.allow(("*",), "")
    assert access.refusal({"host": "any.example", "origin": "http://any.example"}, {}) is None


def test_every_answer_has_its_headers(client):
    for reply in (client.get("/"), client.get("/", headers={"Host": "evil.example"})):
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"]
        assert "'sha256-" in reply.headers["Content-Security-Policy"]


def test_the_routes_are_described_without_any_other_host():
    from service.app import app

    page = describe_routes(app.openapi())
    for route in ("/api/read", "/api/restore", "/api/degrade"):
        assert route in page
    assert "<script" not in page
    assert "src=" not in page
