"""Settings of a node: ``node.toml`` in its home, read once at the entry point and passed on.

Nothing secret stands in the file. The department's own limits stand here too: the stricter
of these and the grant's always wins.
"""

import json
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nodes.contract.messages import Name
from nodes.errors import SettingsError

PLANES = ("flower", "relay")


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """What a node is and what its department allows.

    Attributes:
        home: folder of the node.
        id: actor id.
        organisation: body it belongs to.
        title_zh, title_en: names for people.
        hub: ``host:port`` of the Flower hub.
        relay: URL of the relay.
        planes: which planes carry parcels to this node.
        tasks: tasks the department allows; empty means all that are installed.
        rows_min: fewest rows with which it takes part, whatever a grant says.
        quality_required: whether a resource without a passed quality run is held.
        auto_approve_grants: sign every valid grant at once; for throw-away trials only.
        session_idle_s: after how many idle seconds an open session expires.
        workers: how many parcels are handled at the same time.
        hub_poll_ms: how often an idle node asks the hub for work, in milliseconds.
        quality_check_s: how often the agent looks whether a quality run is due, in seconds; 0: never.
        epsilon_micro_max: most that one table may lose by differential privacy, over all grants and for good, in
            millionths of epsilon.
    """

    home: Path
    id: str
    organisation: str
    title_zh: str
    title_en: str
    hub: str = ""
    relay: str = ""
    planes: tuple[str, ...] = PLANES
    tasks: tuple[str, ...] = ()
    rows_min: int = 10
    quality_required: bool = True
    auto_approve_grants: bool = False
    session_idle_s: int = 3600
    workers: int = 4
    hub_poll_ms: int = 1000
    quality_check_s: int = 60
    epsilon_micro_max: int = 2_000_000

    def __post_init__(self) -> None:
        for name, value in (("id", self.id), ("organisation", self.organisation)):
            try:
                TypeAdapter(Name).validate_python(value)
            except ValidationError:
                raise SettingsError(
                    f"expected {name} of lower-case letters, digits, dot, underscore, colon and hyphen"
                ) from None
        if not self.planes or any(plane not in PLANES for plane in self.planes):
            raise SettingsError(f"expected planes out of {', '.join(PLANES)}")
        if self.rows_min < 1 or self.session_idle_s < 1 or self.workers < 1 or self.hub_poll_ms < 50:
            raise SettingsError(
                "expected rows_min, session_idle_s and workers of at least 1, hub_poll_ms of at least 50"
            )
        if self.quality_check_s < 0 or self.epsilon_micro_max < 0:
            raise SettingsError("expected quality_check_s and epsilon_micro_max of at least 0")

    @property
    def keys(self) -> Path:
        """Folder of the key files."""
        return self.home / "keys"

    @property
    def certs(self) -> Path:
        """Folder of the certificates."""
        return self.home / "certs"

    @property
    def trust(self) -> Path:
        """Folder of the trust metadata and targets."""
        return self.home / "trust"

    @property
    def books(self) -> Path:
        """File of the books."""
        return self.home / "books.db"

    @property
    def privacy_anchor(self) -> Path:
        """File that names the newest loss of privacy in the books."""
        return self.home / "privacy.anchor"

    @property
    def catalogue(self) -> Path:
        """Folder of the catalogue entries."""
        return self.home / "catalogue"

    @property
    def logs(self) -> Path:
        """Folder of the log files."""
        return self.home / "logs"

    @property
    def parts(self) -> Path:
        """This node's parts of vertical models."""
        return self.home / "parts"

    @property
    def state(self) -> Path:
        """Folder of open sessions' files."""
        return self.home / "state"


def load_settings(home: Path) -> NodeSettings:
    """Read ``node.toml`` of a home.

    Raises:
        SettingsError: no such file, or a wrong, missing or unknown setting, with its name.
    """
    path = home / "node.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"expected {path}; make a home with `shufang-node init --home {home} …`") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"expected readable TOML in {path} ({type(error).__name__})") from error
    known = {item.name: item for item in fields(NodeSettings) if item.name != "home"}
    values: dict[str, Any] = {}
    for name, value in document.items():
        if name not in known:
            raise SettingsError(f"{path}: unknown setting {name!r}; known are {', '.join(known)}")
        values[name] = _typed(path, name, value, known[name].type)
    missing = [name for name in ("id", "organisation", "title_zh", "title_en") if name not in values]
    if missing:
        raise SettingsError(f"{path}: missing setting {missing[0]!r}")
    return NodeSettings(home=home, **values)


def settings_toml(settings: NodeSettings) -> str:
    """Return the text of ``node.toml`` for ``settings``."""
    lines = ["# Settings of this node. The stricter of these and a grant's limits wins."]
    for item in fields(NodeSettings):
        if item.name == "home":
            continue
        value = getattr(settings, item.name)
        lines.append(
            f"{item.name} = {json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)}"
        )
    return "\n".join(lines) + "\n"


def _typed(path: Path, name: str, value: object, kind: object) -> object:
    if kind in (int, "int") and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind in (bool, "bool") and isinstance(value, bool):
        return value
    if kind in (str, "str") and isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value) and "tuple" in str(kind):
        return tuple(value)
    raise SettingsError(f"{path}: setting {name!r} has the wrong type")
