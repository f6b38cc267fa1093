"""`duvlm doctor`: what is wrong with a machine, and what to do; in the same words where a cluster fails to start."""

import socket
import sys

import duvlm
from configs.cluster import doctor, machine


def test_a_token_that_others_can_read_is_wrong_and_says_what_to_do(tmp_path, monkeypatch, capsys):
    file = tmp_path / "auth_token"
    file.write_text("secret")
    file.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    assert duvlm.main(["doctor"]) == 1
    table = capsys.readouterr().out
    assert f"{file} can be read by others" in table
    assert f"-> `chmod 600 {file}`" in table
    file.chmod(0o600)
    assert not machine.token().cure


def test_the_folder_of_ray_must_be_there_and_short_enough_for_a_socket(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "nowhere"))
    assert "set RAY_TMPDIR to a folder that is there" in machine.ray_folder().cure
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    assert "shorter path" in machine.ray_folder().cure
    assert "shorter path" in machine.describe_machine()  # what a cluster that does not start says
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    assert "shorter path" not in machine.describe_machine()


def test_a_port_that_something_listens_on_is_in_use_and_no_fault(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        monkeypatch.setitem(doctor.PORTS, number, "a test")
        assert doctor.port(number) == machine.Check(f"port {number}", "in use, for a test")
    assert doctor.port(number).found == "free, for a test"


def test_a_package_of_another_version_is_named_with_what_installs_the_right_one(tmp_path, monkeypatch):
    known = tmp_path / "duvlm-9.0.dist-info"
    known.mkdir()
    needs = "Requires-Dist: numpy==0.1\nRequires-Dist: no-such-package>=1\nRequires-Dist: no-extra; extra == 'other'\n"
    (known / "METADATA").write_text(f"Metadata-Version: 2.1\nName: duvlm\nVersion: 9.0\n{needs}")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    wrong = {check.name: check.cure for check in doctor.versions() if check.cure}
    assert wrong == {"numpy": "`pip install 'numpy==0.1'`", "no-such-package": "`pip install 'no-such-package>=1'`"}


def test_the_table_says_how_many_checks_are_wrong():
    table = doctor.table([machine.Check("disk", "full", "free some"), machine.Check("token", "whole")])
    wrong = ["WRONG disk   full", "             -> free some"]
    assert table.splitlines() == [*wrong, "ok    token  whole", "1 of 2 wrong"]
