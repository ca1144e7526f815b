"""Newer trust data, taken from the agency's service and passed on: relay, hub, nodes.

Nothing is trusted on the way: the operator verifies the files from its own pinned root, and
so does every node.
"""

import base64
from dataclasses import dataclass
from datetime import UTC, datetime

from factory.errors import FactoryError
from factory.hub.flower_bus import HubControl
from factory.hub.superlink import HubSettings
from factory.site.founding import write_actors
from factory.site.operator import OperatorDesk
from factory.trust import load_trust, write_trust_folder


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of it.

    Attributes:
        registered, unregistered: changes at the hub.
        told: nodes that have the new trust data.
        missed: nodes that did not take it, with the reason; they are told again at the next call.
    """

    registered: tuple[str, ...]
    unregistered: int
    told: tuple[str, ...]
    missed: dict[str, str]


def take_trust(desk: OperatorDesk) -> Taken:
    """Fetch, verify and pass on the agency's current trust data.

    Nodes that were admitted since may connect, nodes that were removed no longer can; the
    others keep working throughout.

    Args:
        desk: the operator's; open a new one afterwards, it keeps the keys it was opened with.

    Raises:
        TrustError: what the agency sent does not verify, or is older than what was accepted.
        NodeUnreachableError: the agency does not answer.
    """
    now = datetime.now(UTC)
    files = desk.agency().fetch_trust()
    write_trust_folder(desk.identity.trust_path, files, now=now)
    trust = load_trust(desk.identity.trust_path, now=now)
    write_actors(desk.site)
    wanted = {
        base64.b64decode(actor.hub_spki): actor.id
        for actor in trust.actors.actors
        if actor.hub_spki and actor.is_valid_at(now)
    }
    control = HubControl(HubSettings.read(desk.site.hub_settings))
    try:
        present = {node.spki for node in control.nodes()}
        for spki in set(wanted) - present:
            control.register(wanted[spki], spki)
        for spki in present - set(wanted):
            control.unregister(spki)
    finally:
        control.close()
    nodes, told, missed = desk.nodes(), [], {}
    for node in sorted(set(wanted.values()) & set(nodes.keys)):
        try:
            nodes.update_trust([node], files)
            told.append(node)
        except FactoryError as error:
            missed[node] = f"{error.code}: {error}"
    return Taken(
        tuple(sorted(wanted[spki] for spki in set(wanted) - present)), len(present - set(wanted)), tuple(told), missed
    )
