"""The application unit's trial in the main job: a process of its own, with its own home, asks and answers."""

import json
import tempfile
from pathlib import Path

from factory.client.match import Invitation
from factory.pipelines.verification import Trial
from factory.site.layout import CLIENT, Site
from factory.site.operator import relay_url
from factory.site.processes import run_module

TIMED = 20
"""Hits, and misses, whose times are compared."""


def try_questions(site: Site, invitation: Invitation, questions: Path) -> tuple[Trial, list[bool]]:
    """Have the application unit ask the questions of a file.

    Returns:
        What it reports to the operator, and the answers, which only it knows.
    """
    with tempfile.TemporaryDirectory(dir=site.folder) as folder:
        path = Path(folder) / "invitation"
        path.write_bytes(invitation.to_bytes())
        text = run_module(
            "factory.client.ask", "--home", str(site.home(CLIENT.id)), "--invitation", str(path),
            "--records", str(questions), "--relay", relay_url(site.hub_settings), "--timed", str(TIMED),
        )  # fmt: skip
    value = json.loads(text)
    return Trial.reported(value), [bool(item["match"]) for item in value["answers"]]
