"""Where the law's data lies: the profiles of the product and the ``law.toml`` of a deployment.

base = "GD"
[set]
"incident.notice" = "1 h"
"""

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from factory.files import write_atomic
from factory.law.errors import ProfileMalformedError
from factory.law.profile import (
    Code,
    Layer,
    Profile,
    complete,
    known_code,
    lay,
    proposed_line,
    read_layer,
    unset,
    with_choices,
)

LAW_FILE = "law.toml"


def built_in(code: Code) -> Layer:
    """Return a jurisdiction's layer over NATIONAL, words still unset."""
    national = _layer("NATIONAL")
    return national if code == "NATIONAL" else lay(national, _layer(code))


def own_layer(code: Code) -> Layer:
    """Return what the jurisdiction's own file states."""
    return _layer(code)


def _layer(code: Code) -> Layer:
    text = resources.files("factory.law").joinpath("profiles", f"{code.lower()}.toml").read_text("utf-8")
    return read_layer(tomllib.loads(text))


def proposed(code: Code) -> Profile:
    """Return the profile with every word set as the decision record proposes; for trials and simulations."""
    layer = built_in(code)
    return complete(with_choices(layer, {key: leaf.propose for key, leaf in unset(layer)}))


def read_law(path: Path) -> Layer:
    """Return the layers of a deployment's law.toml laid over each other.

    Raises:
        ProfileMalformedError: the file is not there or not what it must be.
        ProfileUnknownError: its base is no profile.
    """
    try:
        tables: Mapping[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ProfileMalformedError(
            f"expected {path}; make it with `shufang profile init --base GD --home {path.parent}`"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileMalformedError(f"expected TOML in {path}: {error}") from None
    if not set(tables) <= {"base", "set"} or not isinstance(tables.get("base"), str):
        raise ProfileMalformedError(f"expected base and [set] alone in {path}")
    choices = tables.get("set", {})
    if not isinstance(choices, Mapping):
        raise ProfileMalformedError(f"expected [set] as a table in {path}")
    return with_choices(built_in(known_code(tables["base"])), choices)


def deployed(home: Path) -> Profile:
    """Return the profile that a home runs under.

    Raises:
        ProfileMalformedError: no law.toml, or a wrong one.
        ProfileUnsetError: a word without a number is not set.
    """
    return complete(read_law(home / LAW_FILE))


def law_text(code: Code, *, accept_proposed: bool) -> str:
    """Return a law.toml; the proposed lines stand as comments unless they are accepted."""
    mark = "" if accept_proposed else "# "
    lines = [f"{mark}{proposed_line(key, leaf)}" for key, leaf in unset(built_in(code))]
    return "\n".join((f'base = "{code}"', "", "[set]", *lines, ""))


def write_law(home: Path, code: Code, *, accept_proposed: bool) -> Path:
    """Write a home's law.toml.

    Raises:
        ProfileMalformedError: there is one already.
    """
    path = home / LAW_FILE
    if path.exists():
        raise ProfileMalformedError(f"{path} is there already; change it by hand, then `shufang profile check`")
    write_atomic(path, law_text(code, accept_proposed=accept_proposed).encode())
    return path
