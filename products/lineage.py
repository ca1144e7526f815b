"""The four questions about a released product, answered from its package alone.

Whence (which registered resources), whither (for which scenario, under which grant), who did what
(every signed statement with its signer and place in the log), who answers for it. Nothing is
believed here: ``products.verify`` says whether the package holds.
"""

from pathlib import Path
from typing import Any, cast

from products.dsse import Envelope
from products.errors import IncompleteError
from products.fields import time_text
from products.log import LogProof
from products.package import paths
from products.package.reading import read_package
from products.repository import ACTORS
from products.statements import Grant, Release, Resource, read
from products.trust import Actors, read_target


def find_package(folder: Path, code: str) -> Path | None:
    """Return the package below ``folder`` whose certificate bears the registration code."""
    for path in sorted(folder.glob(f"*/{paths.CERTIFICATE_JSON}")):
        if f'"code":"{code}"'.encode() in path.read_bytes():
            return path.parent.parent
    return None


def four_answers(package: Path) -> dict[str, Any]:
    """Return whence, whither, who did what and who answers, as JSON values.

    Raises:
        ProductError: the package cannot be read.
        IncompleteError: it holds no release.
    """
    files = read_package(package)
    listed = next((data for path, data in files.below(paths.TRUST_TARGETS).items() if path.endswith(ACTORS)), None)
    if listed is None:
        raise IncompleteError("expected the list of actors in the package")
    actors = read_target(Actors, ACTORS, listed).by_keyid()
    acts, predicates = [], {}
    for path, data in sorted(files.below(paths.ATTESTATIONS).items()):
        if not path.endswith(paths.ENVELOPE_SUFFIX):
            continue
        envelope = Envelope.from_bytes(data)
        statement = read(envelope.payload)
        predicates[envelope.payload_sha256] = statement.predicate
        name = path.removeprefix(paths.ATTESTATIONS).removesuffix(paths.ENVELOPE_SUFFIX)
        proof = LogProof.from_bytes(files.content[f"{paths.LOG}{name}{paths.PROOF_SUFFIX}"])
        signer = actors.get(envelope.keyid)
        acts.append(
            {
                "statement": name.rpartition(f".{signer.id}")[0] if signer else name,
                "type": statement.predicate_type,
                "signer": signer.id if signer else envelope.keyid,
                "organisation": signer.organisation if signer else "",
                "log_index": proof.index,
            }
        )
    releases = [item for item in predicates.values() if isinstance(item, Release)]
    if len(releases) != 1:
        raise IncompleteError(f"expected one release, got {len(releases)}")
    release = releases[0]
    grant = cast(Grant | None, predicates.get(release.grant.sha256))
    resources = [item for item in predicates.values() if isinstance(item, Resource)]
    signers = {actor.id: actor for actor in actors.values()}
    on_release = [signers[a["signer"]] for a in acts if a["statement"] == "release" and a["signer"] in signers]
    return {
        "product": f"{release.product.id}@{release.product.version}",
        "registration": release.registration.code,
        "whence": [
            {
                "resource": f"{item.resource.id}@{item.resource.version}",
                "holder": item.resource.holder,
                "platform": item.registration.platform,
                "registration": item.registration.code,
                "quality_score_x100": item.quality.score_x100,
            }
            for item in sorted(resources, key=lambda item: item.resource.id)
        ],
        "whither": {
            "scenario": grant.scenario_title if grant else "",
            "purpose": grant.purpose if grant else "",
            "grant": release.grant.id,
            "valid_until": time_text(min(release.validity.not_after, release.registration.valid_until)),
        },
        "who_did_what": sorted(acts, key=lambda act: cast(int, act["log_index"])),
        "who_answers": [
            {"actor": a.id, "organisation": a.organisation, "name_zh": a.title_zh, "roles": list(a.roles)}
            for a in on_release
        ],
    }
