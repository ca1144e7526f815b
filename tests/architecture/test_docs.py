"""The documentation: generated pages are fresh, links live, commands that it names exist."""

import re

import click
import pytest
import typer.main

from docs import build
from factory.cli import app as shufang
from nodes.cli import app as shufang_node

ROOTS = {"shufang": shufang, "shufang-node": shufang_node}
HUMAN = [page for page in build.pages() if page.name not in build.PAGES]


@pytest.mark.parametrize("name", sorted(build.PAGES))
def test_a_generated_page_is_what_the_sources_say_now(name):
    page = build.ROOT / "docs" / "reference" / name
    assert page.read_text("utf-8") == build.PAGES[name](), "run: make docs"


def test_every_link_leads_somewhere():
    assert build.dead_links() == []


def test_a_dead_link_is_found(tmp_path, monkeypatch):
    (tmp_path / "page.md").write_text("[here](nowhere.md) [there](https://example.org) [me](page.md#top)", "utf-8")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    assert build.dead_links() == ["page.md: nowhere.md"]


@pytest.mark.parametrize("page", HUMAN, ids=lambda page: page.relative_to(build.ROOT).as_posix())
def test_every_command_and_option_in_a_page_exists(page):
    wrong = [line for line in _commands(page.read_text("utf-8")) if not _exists(line)]
    assert wrong == []


@pytest.mark.parametrize("page", HUMAN, ids=lambda page: page.relative_to(build.ROOT).as_posix())
def test_every_file_of_the_repository_that_a_command_names_exists(page):
    named = [word for line in _commands(page.read_text("utf-8")) for word in line.split() if word.startswith("docs/")]
    assert [name for name in named if not (build.ROOT / name).exists()] == []


def test_a_command_that_does_not_exist_is_found():
    assert not _exists("shufang frobnicate")
    assert not _exists("shufang up --nowhere out")
    assert _exists("shufang-node grants approve G --home out --reason yes")


def _commands(text: str) -> list[str]:
    """Return the command lines of a page: in blocks, and in backticks."""
    text = text.replace("\\\n", " ")
    text = re.sub(r"\*Proposal\*:.*?(?=\n\n|\n\d+\. |\Z)", "", text, flags=re.DOTALL)  # not there yet
    blocks = "\n".join(re.findall(r"^ *```(?:sh)?\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL))
    lines = [line.strip().removeprefix(".venv/bin/") for line in blocks.splitlines()]
    lines += re.findall(r"`(shufang(?:-node)? [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [line for line in lines if re.match(r"shufang(-node)? [a-z]", line)]


def _exists(line: str) -> bool:
    words = line.partition(" #")[0].split()
    command: click.Command = typer.main.get_command(ROOTS[words[0]])
    rest = words[1:]
    while isinstance(command, click.Group) and rest:
        found = command.commands.get(rest[0].strip("…,"))
        if found is None:
            return rest[0].startswith("-") or "|" in rest[0]
        command, rest = found, rest[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return all(word.partition("=")[0] in {*known, "--help"} for word in rest if word.startswith("--"))
