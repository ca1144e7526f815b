"""The officials' commands, one home each: from an empty folder to a published admission."""

import json

import pytest
from typer.testing import CliRunner

from factory.agency.cli import app, identity_app
from factory.agency.errors import SignatureMissingError
from factory.key_files import HomeExistsError


def run(group, *arguments):
    result = CliRunner().invoke(group, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def identity(home, actor_id, organisation, role, *more):
    return run(
        identity_app, "init", "--home", home, "--id", actor_id, "--organisation", organisation,
        "--title-zh", "甲", "--title-en", "A", "--role", role, *more,
    )  # fmt: skip


@pytest.fixture
def agency(tmp_path):
    for number in (1, 2):
        identity(tmp_path / f"registrar-{number}", f"registrar-{number}", "bureau", "registrar")
    homes = [x for n in (1, 2) for x in ("--registrar", tmp_path / f"registrar-{n}")]
    roots = [x for n in (1, 2, 3) for x in ("--root-folder", tmp_path / f"root-{n}")]
    run(app, "init", "--home", tmp_path / "agency", "--organisation", "bureau", *homes, *roots)
    return tmp_path


def sign_and_publish(folder):
    for number in (1, 2):
        run(app, "sign-trust", "--home", folder / f"registrar-{number}", "--agency", folder / "agency")
    return run(app, "publish", "--home", folder / "agency")


def test_publishing_without_the_second_registrar_is_refused(agency):
    run(app, "sign-trust", "--home", agency / "registrar-1", "--agency", agency / "agency")
    with pytest.raises(SignatureMissingError, match="let each registrar sign"):
        run(app, "publish", "--home", agency / "agency")


def test_making_an_identity_twice_is_refused(agency):
    with pytest.raises(HomeExistsError):
        identity(agency / "registrar-1", "registrar-1", "bureau", "registrar")


def test_an_actor_is_admitted_by_commands_alone(agency):
    home = agency / "operator"
    made = identity(home, "operator", "operator-ltd", "operator", "--root", agency / "agency" / "trust" / "root.json")
    admitted = run(app, "admit", "--home", agency / "agency", home / "enrolment.json")
    assert admitted[0]["sha256"] == made["sha256"]
    assert admitted[-1]["change"]["actors_added"] == ["agency", "operator", "registrar-1", "registrar-2"]
    assert sign_and_publish(agency)["version"] == 1
    run(app, "response", "--home", agency / "agency", "operator", "--out", agency / "answers")
    assert run(identity_app, "install", "--home", home, agency / "answers" / "operator.answer.json") == {
        "id": "operator",
        "installed": True,
    }
    run(app, "status-set", "--home", agency / "agency", "actor", "operator", "--state", "suspended", "--reason", "x")
    assert run(app, "pending", "--home", agency / "agency")["status_added"] == ["actor operator"]
    assert run(app, "events", "--home", agency / "agency")["verified"] == 0
