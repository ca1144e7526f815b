"""Found an embedded deployment: every party makes its own keys in its own process and enrols.

The acts of officials are commands run on their own homes: registrars sign trust data, the
agency admits, departments install the answer. This process is the operator and opens the
operator's home alone.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from factory.errors import FactoryError
from factory.files import write_atomic
from factory.identity import load_identity
from factory.key_files import write_key_file
from factory.law.files import write_law
from factory.site.layout import AGENCY_TITLE, CLIENT, OPERATOR, REGISTRARS, REVIEWERS, Office, Site
from factory.site.processes import free_port, quoted, run_module, run_modules
from factory.trust import load_trust

CLI, NODE_CLI, WITNESSING = "factory.cli", "nodes.cli", "factory.site.witnessing"
Tell = Callable[[str], None]


UNFINISHED = "site.unfinished"
"""Marks a folder in which a deployment is being made; whoever finds it makes the deployment anew."""
_SAMPLE_REPORT = "示例部署，不是等级保护测评报告。\nOf a sample deployment; no test report of a protection grade.\n"


class SiteExistsError(FactoryError):
    """There is a deployment, or something else, in this folder already."""

    code = "site.exists"


@contextmanager
def made_whole(folder: Path) -> Iterator[None]:
    """Make a deployment in ``folder`` or leave none: what a failure or an interruption left is removed.

    Raises:
        SiteExistsError: the folder holds something that is not a half-made deployment.
    """
    marker = folder / UNFINISHED
    if folder.exists() and not folder.is_dir():
        raise SiteExistsError(f"expected a folder at {folder}, got a file; choose another folder")
    is_ours = not folder.exists()
    if marker.exists():
        _empty(folder)
    elif not is_ours and any(folder.iterdir()):
        raise SiteExistsError(f"expected an empty folder or a deployment in {folder}; choose another folder")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    marker.touch()
    try:
        yield
    except BaseException:
        _empty(folder)
        if is_ours:
            folder.rmdir()
        raise
    marker.unlink()


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def found_site(site: Site, *, tell: Tell = lambda _: None) -> None:
    """Make every party's home, the trust data, the log with its witness, and the settings of hub and relay.

    Args:
        site: its folder is being made whole.
        tell: gets a short text per stage.

    Raises:
        ProcessFailedError: a party's command failed.
    """
    tell("keys")
    run_modules([*(_identity(site, office) for office in REGISTRARS), (WITNESSING, str(site.folder), "witness")])
    run_module(WITNESSING, str(site.folder), "log")
    run_module(
        CLI, "agency", "init", "--home", str(site.agency), "--organisation", "org-agency",
        "--title-zh", AGENCY_TITLE[0], "--title-en", AGENCY_TITLE[1],
        *(text for office in REGISTRARS for text in ("--registrar", str(site.home(office.id)))),
        *(text for number in (1, 2, 3) for text in ("--root-folder", str(site.folder / "root" / str(number)))),
        "--tlog-policy", str(site.folder / "tlog-policy.txt"), "--accept-proposed",
        "--passphrase-file", str(site.passphrase("agency")),
        *(
            text for number in (1, 2, 3)
            for text in ("--root-passphrase-file", str(site.passphrase(f"root-{number}")))
        ),
    )  # fmt: skip
    root = site.folder / "1.root.json"
    write_atomic(root, (site.agency / "trust" / "root.json").read_bytes())
    hub, relay = free_port(), free_port()
    tell("enrolment")
    run_modules(
        [
            (WITNESSING, str(site.folder), "watch"),
            *(_identity(site, office, root) for office in (OPERATOR, *REVIEWERS, CLIENT)),
            *(_node(site, department, root, hub, relay) for department in site.departments),
        ]
    )
    _found_hub(site, hub, relay)
    homes = [site.home(office.id) for office in (OPERATOR, *REVIEWERS, CLIENT)]
    homes += [site.node(department) for department in site.departments]
    report = site.folder / "protection-report.txt"
    write_atomic(report, _SAMPLE_REPORT.encode())
    run_module(
        CLI, "agency", "protection", *(d.node for d in site.departments), "--home", str(site.agency), "--grade", "3",
        "--report", str(report), "--tester", "示例", "--official", "示例", "--until",
        (datetime.now(UTC).date() + timedelta(days=2 * 365)).isoformat(),
    )  # fmt: skip
    tests = site.folder / "interface"
    names = [department.node for department in site.departments]
    run_module(CLI, "agency", "interface-test", *names, "--home", str(site.agency), "--out", str(tests))
    run_modules(
        [
            (NODE_CLI, "interface", str(tests / f"{d.node}.interface-test.json"), "--home", str(site.node(d)),
             "--out", str(tests / f"{d.node}.answer.json"))
            for d in site.departments
        ]
    )  # fmt: skip
    run_module(
        CLI, "agency", "admit", "--home", str(site.agency), *(str(home / "enrolment.json") for home in homes),
        *(text for name in names for text in ("--answer", str(tests / f"{name}.answer.json"))),
    )  # fmt: skip
    publish(site)
    tell("admission")
    answers = site.folder / "answers"
    actors = [OPERATOR.id, *(o.id for o in REVIEWERS), CLIENT.id, *(d.node for d in site.departments)]
    actors += [office.id for office in REGISTRARS]
    run_module(CLI, "agency", "response", "--home", str(site.agency), "--out", str(answers), *actors)
    run_modules(
        [
            *(_install(site, office, answers, root) for office in (OPERATOR, *REVIEWERS, CLIENT, *REGISTRARS)),
            *(
                (NODE_CLI, "admit-response", str(answers / f"{d.node}.answer.json"), "--home", str(site.node(d)))
                for d in site.departments
            ),
        ]
    )
    write_actors(site)
    write_law(site.operator, "NATIONAL", accept_proposed=True)
    write_atomic(
        site.folder / "site.json",
        json.dumps({"departments": [department.key for department in site.departments]}).encode(),
    )


def publish(site: Site) -> None:
    """Have both registrars sign the pending trust data and the agency publish it."""
    for office in REGISTRARS:
        run_module(CLI, "agency", "sign-trust", "--home", str(site.home(office.id)), "--agency", str(site.agency))
    run_module(CLI, "agency", "publish", "--home", str(site.agency))


def write_actors(site: Site) -> None:
    """Give the relay the agency's current list of actors."""
    trust = load_trust(site.operator / "trust", now=datetime.now(UTC))
    write_atomic(site.hub_settings.parent / "actors.json", trust.actors.to_payload())


def _identity(site: Site, office: Office, root: Path | None = None) -> tuple[str, ...]:
    pinned = ("--root", str(root)) if root else ()
    return (
        CLI, "identity", "init", "--home", str(site.home(office.id)), "--id", office.id,
        "--organisation", office.organisation, "--title-zh", office.title_zh, "--title-en", office.title_en,
        "--role", office.role, "--passphrase-file", str(site.passphrase(office.id)), *pinned,
    )  # fmt: skip


def _node(site: Site, department: object, root: Path, hub: int, relay: int) -> tuple[str, ...]:
    from factory.site.layout import Department

    if not isinstance(department, Department):
        raise TypeError("expected a department")
    return (
        NODE_CLI, "init", "--home", str(site.node(department)), "--id", department.node,
        "--organisation", department.organisation, "--title-zh", department.title_zh,
        "--title-en", department.title_en, "--hub", f"127.0.0.1:{hub}", "--relay", f"https://127.0.0.1:{relay}",
        "--root", str(root), "--hub-poll-ms", "200",
        "--passphrase-file", str(site.passphrase(department.node)),
    )  # fmt: skip


def _install(site: Site, office: Office, answers: Path, root: Path) -> tuple[str, ...]:
    return (
        CLI, "identity", "install", "--home", str(site.home(office.id)), str(answers / f"{office.id}.answer.json"),
        "--root", str(root),
    )  # fmt: skip


def _found_hub(site: Site, hub: int, relay: int) -> None:
    folder = site.hub_settings.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    write_key_file(folder / "server.pem", key)
    public = folder / "server.pub.pem"
    write_atomic(
        public,
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    )
    run_module(
        CLI, "agency", "issue-server", "--home", str(site.agency), str(public), "--name", "hub",
        "--out", str(folder / "server.crt"),
    )  # fmt: skip
    write_atomic(folder / "ca.crt", (site.agency / "ca" / "ca.crt").read_bytes())
    shared = 'cert_path = "server.crt"\nkey_path = "server.pem"\nca_path = "ca.crt"\n'
    write_atomic(
        site.hub_settings,
        f'[hub]\nhome = "superlink"\nport = {hub}\n{shared}\n'
        f'[relay]\nport = {relay}\n{shared}actors_path = "actors.json"\n'.encode(),
    )
    write_atomic(site.agency / "agency.toml", f'relay_url = "https://127.0.0.1:{relay}"\n'.encode())


def open_site(folder: Path) -> Site:
    """Return the deployment in ``folder``.

    Raises:
        SiteMissingError: there is none.
    """
    from factory.site.layout import DEPARTMENTS, HOSPITALS

    try:
        keys: Sequence[str] = json.loads((folder / "site.json").read_text("utf-8"))["departments"]
    except (OSError, ValueError, KeyError) as error:
        raise SiteMissingError(
            f"expected a deployment in {folder}; make one with: shufang up --home {quoted(folder)}"
        ) from error
    if (folder / UNFINISHED).exists():
        raise SiteMissingError(
            f"expected a whole deployment in {folder}; make it anew with: shufang up --home {quoted(folder)}"
        )
    known = DEPARTMENTS if len(keys) == len(DEPARTMENTS) else HOSPITALS
    load_identity(folder / OPERATOR.id)
    return Site(folder, known)


class SiteMissingError(FactoryError):
    """There is no deployment in this folder."""

    code = "site.missing"
