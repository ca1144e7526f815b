"""The platform of a jurisdiction: an agency's home with its registry, and every service over it."""

from dataclasses import dataclass
from pathlib import Path

from factory.accounts.authentication import Authentication
from factory.accounts.credentials import Credentials
from factory.accounts.keys import AccountKeys
from factory.agency.catalogue import Catalogue
from factory.agency.national import NationalRegistrations
from factory.agency.office import Office, open_office
from factory.agency.registrations import Registrations
from factory.agency.rulings import Rulings
from factory.agency.serve import open_registry
from factory.agency.settings import read_settings
from factory.agency.standing import Standings
from factory.registry.store import Registry
from factory.services.alerts import Alerts
from factory.services.audit import Audit
from factory.services.desk import Desk
from factory.services.governed import Governed
from factory.services.people import People
from factory.services.posture import Posture
from factory.services.product_list import ProductList
from factory.services.products import Products
from factory.services.retention import Retention
from factory.services.running import Clocks
from factory.services.scenarios import Scenarios


@dataclass(frozen=True, slots=True)
class Platform:
    """Services that share one registry and one clock.

    Attributes:
        office: the agency whose platform it is.
        desk: the one way to act on a case.
        authentication: who calls.
        people: organisations, accounts, parties.
        rulings: agreements, requests and grants.
        catalogue: the level's catalogue.
        registrations: registration of products.
        national: national registration of products that are registered.
        scenarios: scenarios that are argued, demands.
        products: products and their steps.
        product_list: the filed and public list of products.
        governed: agreements and incidents.
        standings: access of operators, and the start of incidents, with what they stop.
        clocks: what runs for which case.
        alerts: what stands out among events and clocks.
        posture: whether the protective measures are on.
        retention: removal of old events.
        audit: search in what was done.
    """

    office: Office
    desk: Desk
    authentication: Authentication
    people: People
    rulings: Rulings
    catalogue: Catalogue
    registrations: Registrations
    national: NationalRegistrations
    scenarios: Scenarios
    products: Products
    product_list: ProductList
    governed: Governed
    standings: Standings
    clocks: Clocks
    alerts: Alerts
    posture: Posture
    retention: Retention
    audit: Audit

    def close(self) -> None:
        """Release the registry."""
        self.desk.registry.close()


def open_platform(home: Path) -> Platform:
    """Open the platform of an agency's home.

    Raises:
        HomeError: no agency here, or keys that others can read.
        RegistryError: the registry cannot be used, or is of another release.
    """
    office = open_office(home)
    settings = read_settings(home) if (home / "agency.toml").is_file() else None
    return build_platform(office, open_registry(office, settings))


def build_platform(office: Office, registry: Registry) -> Platform:
    """Return the services over an open registry."""
    desk = Desk(registry, office.now)
    keys = AccountKeys.of_home(office.home)
    credentials = Credentials(registry, keys)
    clocks = Clocks(desk, office)
    return Platform(
        office=office,
        desk=desk,
        authentication=Authentication(desk, credentials, platform=office.identity.id, trust=office.trust),
        people=People(desk, credentials, keys),
        rulings=Rulings(office, registry),
        catalogue=Catalogue(office, registry),
        registrations=Registrations(office, registry),
        national=NationalRegistrations(office, registry),
        scenarios=Scenarios(desk, office),
        products=Products(desk, office),
        product_list=ProductList(desk),
        governed=Governed(desk, office),
        standings=Standings(office, registry),
        clocks=clocks,
        alerts=Alerts(desk, clocks),
        posture=Posture(office, registry),
        retention=Retention(desk),
        audit=Audit(desk),
    )
