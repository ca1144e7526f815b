"""Settings of the agency's service, read once from ``agency.toml`` in its home."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from factory.agency.errors import AgencyError


class AgencySettingsError(AgencyError):
    """``agency.toml`` is missing, or a setting in it is."""

    code = "agency.settings"


@dataclass(frozen=True, slots=True)
class AgencySettings:
    """Settings of the service; nothing in them is secret.

    Attributes:
        relay_url: ``https://host:port`` of the relay.
        registry_url: SQLAlchemy URL; empty for ``registry.db`` in the home.
        key_service: whether the service decrypts checked sums.
    """

    relay_url: str
    registry_url: str = ""
    key_service: bool = True


def read_settings(home: Path) -> AgencySettings:
    """Read the settings.

    Raises:
        AgencySettingsError: not there, or not what is expected.
    """
    path = home / "agency.toml"
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
        return AgencySettings(**value)
    except FileNotFoundError:
        raise AgencySettingsError(f'expected {path} with relay_url = "https://host:port"') from None
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise AgencySettingsError(
            f"expected relay_url, registry_url and key_service alone in {path}: {error}"
        ) from None


def registry_url(home: Path) -> str:
    """Return where the registry of a home is: the URL of its settings, or the file in it.

    Raises:
        AgencySettingsError: the settings are wrong, or there is no registry here.
    """
    if (home / "agency.toml").is_file() and (url := read_settings(home).registry_url):
        return url
    path = home / "registry.db"
    if not path.is_file():
        raise AgencySettingsError(f"expected {path}, or registry_url in {home / 'agency.toml'}")
    return f"sqlite:///{path}"
