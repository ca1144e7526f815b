"""``python -m factory.agency.serve --home DIR``: the agency's service, dialling out to the relay.

Ends on SIGTERM or SIGINT when the work at hand is done. Settings: ``agency.toml`` in the home.
"""

import argparse
import logging
import signal
import threading
from pathlib import Path

from factory.agency.office import Office, open_office
from factory.agency.service import AgencyService, Mounted
from factory.agency.settings import AgencySettings, read_settings
from factory.registry.store import Registry


def open_registry(office: Office, settings: AgencySettings | None = None) -> Registry:
    """Open the agency's registry: the URL of the settings, or the file in its home."""
    if settings is not None and settings.registry_url:
        return Registry(settings.registry_url)
    return Registry.at(office.home / "registry.db")


def build_service(office: Office, registry: Registry, *, key_service: bool) -> AgencyService:
    """Return the service with the kinds it answers."""
    return AgencyService(office, registry, _key_service(office) if key_service else {})


def main() -> None:
    """Run until told to stop."""
    from nodes.relay_client import RelayPlaneSettings, serve

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    home: Path = parser.parse_args().home
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    office, settings = open_office(home), read_settings(home)
    office.law()  # a word without a number stops the start
    with open_registry(office, settings) as registry:
        service = build_service(office, registry, key_service=settings.key_service)
        plane = RelayPlaneSettings(
            url=settings.relay_url,
            ca_path=office.identity.ca_path,
            cert_path=office.identity.tls_certificate_path,
            key_path=office.identity.tls_key_path,
        )
        serve(plane, service.handle, stop)


def _key_service(office: Office) -> dict[str, Mounted]:
    from factory.agency.decrypting import DECRYPT, PUBLIC_KEY, DecryptionService

    keys = DecryptionService(
        home=office.home,
        agency=office.identity.id,
        key=office.identity.key,
        actors=lambda: office.trust().actors,
        status=lambda: office.trust().status,
        now=office.now,
    )
    keys.destroy_old()
    return {
        PUBLIC_KEY: Mounted(keys.handle_public_key),
        DECRYPT: Mounted(keys.handle_decrypt),
    }


if __name__ == "__main__":
    main()
