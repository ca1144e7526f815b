"""The dossier of a product: everything signed about it, and the joint statements made from it. Pure.

Names of statements are those of the package: ``resource-<id>``, ``grant``, ``run-<node>``,
``build``, ``privacy``, ``review-<reviewer>``, ``release``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from factory.release.errors import EvidenceMissingError
from nodes.contract.canonical import JsonValue
from nodes.contract.grant import Grant
from nodes.contract.signing import Envelope, sha256_hex
from nodes.contract.statement import BUILD, NODE_RUN, NS, PRIVACY, RELEASE, RESOURCE, read, statement, time_text
from products.package.payload import Payload, ProductDescription

RETAIN_DAYS = 366 * 6
"""How long evidence is kept: at least the five years of the audit clauses."""

Signed = Mapping[tuple[str, str], bytes]
"""Envelope bytes by (statement name, actor id)."""


@dataclass(frozen=True, slots=True)
class Accounting:
    """What the privacy statement says beside the nodes' ledgers.

    Attributes:
        mechanisms: ``{name, source, parameter_set}`` each.
        learns: ``{party, what_zh, what_en}`` each.
        cell_min, round_base, suppressed: disclosure control that was applied.
        attacks: ``{test, value, limit, unit, ok}`` of every automated test.
    """

    mechanisms: Sequence[Mapping[str, str]]
    learns: Sequence[Mapping[str, str]]
    cell_min: int
    round_base: int
    suppressed: int
    attacks: Sequence[Mapping[str, JsonValue]] = ()


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the build statement says beside sources and times.

    Attributes:
        pipeline: its name.
        recipe_sha256: digest of the recipe file.
        code_sha256: digest of the operator's code tree.
        lock_sha256: digest of the lock file of the environment.
        invocation: id of the build.
    """

    pipeline: str
    recipe_sha256: str
    code_sha256: str
    lock_sha256: str
    invocation: str


@dataclass(frozen=True, slots=True)
class Dossier:
    """A product whose payload is fixed, with the statements it rests on.

    Attributes:
        description: what the metadata says.
        payload: every file below ``data/``.
        grant: the grant.
        grant_sha256: digest of its payload.
        sources: envelopes of ``resource-…``, ``grant`` and ``run-…``, verified.
        quality_reports: report by resource id.
        provenance, accounting: for the joint statements.
    """

    description: ProductDescription
    payload: Payload
    grant: Grant
    grant_sha256: str
    sources: Signed
    quality_reports: Mapping[str, bytes]
    provenance: Provenance
    accounting: Accounting

    @property
    def runs(self) -> dict[str, dict[str, Any]]:
        """Predicate of the run statement per node."""
        return {
            actor: read(Envelope.from_bytes(data).payload, NODE_RUN)[1]
            for (name, actor), data in self.sources.items()
            if name.startswith("run-")
        }

    @property
    def participants(self) -> tuple[str, ...]:
        """Nodes with a run statement, in the grant's order."""
        runs = self.runs
        return tuple(party.node for party in self.grant.parties if party.node in runs)

    @property
    def sessions(self) -> tuple[str, ...]:
        """Sessions of the runs."""
        return tuple(sorted({str(run["session"]) for run in self.runs.values()}))


def build_statement(dossier: Dossier) -> bytes:
    """Return the build provenance that operator and nodes sign."""
    description, provenance = dossier.description, dossier.provenance
    dependencies = [
        {"uri": "urn:shufang:code", "digest": {"sha256": provenance.code_sha256}},
        {"uri": "urn:shufang:lock", "digest": {"sha256": provenance.lock_sha256}},
    ]
    dependencies += [
        {"uri": f"statement:{name}", "digest": {"sha256": digest}}
        for name, digest in sorted(_digests(dossier.sources).items())
    ]
    predicate = {
        "buildDefinition": {
            "buildType": f"{NS}/federated-pipeline/v1",
            "externalParameters": {
                "pipeline": provenance.pipeline,
                "recipe": {"sha256": provenance.recipe_sha256},
                "grant": {"id": dossier.grant.grant_id, "sha256": dossier.grant_sha256},
                "purpose": dossier.grant.purpose,
                "product_form": dossier.grant.product_form,
            },
            "internalParameters": {"parties": list(dossier.participants), "sessions": list(dossier.sessions)},
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {"id": f"urn:shufang:actor:{dossier.grant.operator}"},
            "metadata": {
                "invocationId": provenance.invocation,
                "startedOn": time_text(description.started_at),
                "finishedOn": time_text(max(description.finished_at, _last_run(dossier))),
            },
            "byproducts": [],
        },
    }
    return statement(BUILD, dossier.payload.product_subjects, predicate)


def privacy_statement(dossier: Dossier) -> bytes:
    """Return the privacy account that every participating node signs."""
    runs = dossier.runs
    ledgers = [
        {"node": node, "before": runs[node]["budget"]["before"], "after": runs[node]["budget"]["after"]}
        for node in dossier.participants
    ]
    accounting = dossier.accounting
    predicate = {
        "mechanisms": [dict(item) for item in accounting.mechanisms],
        "unit": dossier.grant.budget.unit,
        "consumed": max(line["after"] - line["before"] for line in ledgers),
        "ledgers": ledgers,
        "learns": [dict(item) for item in accounting.learns],
        "disclosure": {
            "cell_min": accounting.cell_min,
            "round_base": accounting.round_base,
            "suppressed": accounting.suppressed,
        },
        "attacks": [dict(item) for item in accounting.attacks],
    }
    return statement(PRIVACY, dossier.payload.product_subjects, predicate)


@dataclass(frozen=True, slots=True)
class Registered:
    """The product's registration and the policy it is released under.

    Attributes:
        code: registration code.
        valid_until: its end.
        policy_name, policy_version, policy_sha256: of the target ``release-policy.json``.
        previous: version and release digest of the version before, if there is one.
    """

    code: str
    valid_until: datetime
    policy_name: str
    policy_version: int
    policy_sha256: str
    previous: tuple[str, str] | None = None


def release_statement(dossier: Dossier, signed: Signed, registered: Registered, *, now: datetime) -> bytes:
    """Return the release statement over every file and every statement.

    Args:
        dossier: the product.
        signed: all envelopes but those of the release.
        registered: code and policy.
        now: time of release.
    """
    description, previous = dossier.description, registered.previous
    types = {name: _type_of(data) for (name, _), data in signed.items()}
    end = min(registered.valid_until, dossier.grant.not_after)
    predicate = {
        "product": {
            "id": description.id,
            "version": description.version,
            "form": description.form,
            "name_zh": description.name_zh,
            "name_en": description.name_en,
            "previous": {"version": previous[0], "sha256": previous[1]} if previous else None,
        },
        "registration": {"code": registered.code, "valid_until": time_text(registered.valid_until)},
        "policy": {
            "name": registered.policy_name,
            "version": registered.policy_version,
            "sha256": registered.policy_sha256,
        },
        "manifest": dossier.payload.manifest_digests,
        "attestations": [
            {"name": name, "predicate_type": types[name], "sha256": digest}
            for name, digest in sorted(_digests(signed).items())
        ],
        "participants": list(dossier.participants),
        "grant": {"id": dossier.grant.grant_id, "sha256": dossier.grant_sha256},
        "validity": {"not_before": time_text(now), "not_after": time_text(end)},
        "retain_until": _later(now),
        "released_at": time_text(now),
    }
    return statement(RELEASE, dossier.payload.subjects, predicate)


def resource_facts(dossier: Dossier) -> list[tuple[str, dict[str, Any]]]:
    """Return (payload digest, predicate) of every resource statement."""
    found = []
    for (name, _), data in sorted(dossier.sources.items()):
        if name.startswith("resource-"):
            payload = Envelope.from_bytes(data).payload
            found.append((sha256_hex(payload), read(payload, RESOURCE)[1]))
    return found


def _digests(signed: Signed) -> dict[str, str]:
    digests: dict[str, str] = {}
    for (name, actor), data in signed.items():
        digest = Envelope.from_bytes(data).payload_sha256
        if digests.setdefault(name, digest) != digest:
            raise EvidenceMissingError(f"expected {actor} to have signed the same bytes of {name} as the others")
    return digests


def _type_of(data: bytes) -> str:
    from nodes.contract import canonical

    return str(canonical.loads(Envelope.from_bytes(data).payload)["predicateType"])


def _last_run(dossier: Dossier) -> datetime:
    return max(datetime.fromisoformat(run["finished_at"]) for run in dossier.runs.values())


def _later(now: datetime) -> str:
    from datetime import timedelta

    return time_text(now + timedelta(days=RETAIN_DAYS))
