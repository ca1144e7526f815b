"""What the statements of a package say: predicates read into frozen models.

Only a payload whose signature was checked is read here. ``docs/reference/statements.md`` lists the
fields; fields that this release does not know are ignored, those it knows are strict.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from products import canonical
from products.errors import MalformedError, TooLargeError
from products.fields import Count, End, Hex32, Name, Open, Text, Time
from products.forms import BUILD, GRANT, NODE_RUN, PRIVACY, RELEASE, RESOURCE, REVIEW, Form
from products.limits import LIMITS

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
Unit = Literal["session", "query", "epsilon_micro"]
Version = Annotated[int, Field(ge=1)]
ProductVersion = Annotated[str, Field(pattern=r"^[0-9a-z][0-9a-z.+_-]{0,63}$")]


class DigestRef(Open):
    """A name with the digest of the payload it names."""

    id: Name
    sha256: Hex32


# --- data-resource --------------------------------------------------------------------------


class Column(Open):
    """One column of a catalogue entry."""

    name: Text
    type: Text


class ResourceEntry(Open):
    """The catalogue entry."""

    id: Name
    version: Version
    name_zh: str = ""
    name_en: str = ""
    holder: Name
    columns: Annotated[tuple[Column, ...], Field(min_length=1, strict=False)]
    schema_sha256: Hex32
    commitment: Any


class ResourceRegistration(Open):
    """Where the resource is registered; empty texts if it is not, which no release accepts."""

    platform: str
    code: str
    valid_until: End


class Quality(Open):
    """The quality report that was in force."""

    report_sha256: Hex32
    score_x100: Annotated[int, Field(ge=0, le=10_000)]
    assessed_at: Time


class Resource(Open):
    """``NS/data-resource/v1``: what a department holds and how good it is."""

    resource: ResourceEntry
    registration: ResourceRegistration
    quality: Quality
    stated_at: Time


# --- authorization-grant --------------------------------------------------------------------


class GrantedUse(Open):
    """Which part of a resource may be used."""

    resource: Name
    version: Version
    columns: Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]
    row_filter: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = ()


class GrantParty(Open):
    """One department of a grant."""

    node: Name
    resources: Annotated[tuple[GrantedUse, ...], Field(min_length=1, strict=False)]


class GrantThresholds(Open):
    """Limits on what may leave."""

    contributors_min: Annotated[int, Field(ge=1)]
    cell_min: Annotated[int, Field(ge=1)]
    round_base: Annotated[int, Field(ge=1)]
    quality_score_min: Count


class GrantBudget(Open):
    """What may be used up at each node."""

    unit: Unit
    total: Count


class Grant(Open):
    """``NS/authorization-grant/v1``: the permission, with the fields of the contract's grant."""

    grant_id: Name
    scenario: Name
    scenario_title: Text
    purpose: Name
    product_form: Form
    operator: Name
    registrars: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
    parties: Annotated[tuple[GrantParty, ...], Field(min_length=1, strict=False)]
    tasks: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
    uses_max: Annotated[int, Field(ge=1)]
    thresholds: GrantThresholds
    budget: GrantBudget
    issued_at: Time
    not_before: Time
    not_after: Time


# --- node-run -------------------------------------------------------------------------------


class UsedQuality(Open):
    """The quality of a resource as the run used it."""

    report_sha256: Hex32
    score_x100: Annotated[int, Field(ge=0, le=10_000)]


class UsedResource(Open):
    """What a run read."""

    id: Name
    version: Version
    columns: Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]
    row_filter: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = ()
    commitment: Any
    quality: UsedQuality


class Span(Open):
    """An account before and after."""

    before: Count
    after: Count


class UnitSpan(Span):
    """An account of some unit before and after."""

    unit: Unit


class NodeRun(Open):
    """``NS/node-run/v1``: what one node did in one session."""

    node: Name
    session: Name
    task: Name
    scenario: Name
    purpose: Name
    grant: DigestRef
    resources: Annotated[tuple[UsedResource, ...], Field(min_length=1, strict=False)]
    uses: Span
    budget: UnitSpan
    contributors: Annotated[int, Field(ge=0)] | Annotated[tuple[Name, ...], Field(strict=False)]
    started_at: Time
    finished_at: Time

    @property
    def contributor_count(self) -> int:
        """How many nodes took part in what was opened."""
        return self.contributors if isinstance(self.contributors, int) else len(set(self.contributors))


# --- build provenance -----------------------------------------------------------------------


class ExternalParameters(Open):
    """What the builder was asked for."""

    pipeline: Text
    grant: DigestRef
    purpose: Name
    product_form: Form


class InternalParameters(Open):
    """Who took part."""

    parties: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
    sessions: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]


class Dependency(Open):
    """Something the build used."""

    uri: Text
    digest: dict[str, str]


class BuildDefinition(Open):
    """SLSA: what was to be built from what."""

    buildType: Literal["urn:shufang:predicate/federated-pipeline/v1"]  # noqa: N815  SLSA's names
    externalParameters: ExternalParameters  # noqa: N815
    internalParameters: InternalParameters  # noqa: N815
    resolvedDependencies: Annotated[tuple[Dependency, ...], Field(min_length=1, strict=False)]  # noqa: N815


class Builder(Open):
    """SLSA: who built."""

    id: Text


class BuildMetadata(Open):
    """SLSA: when."""

    startedOn: Time  # noqa: N815
    finishedOn: Time  # noqa: N815


class RunDetails(Open):
    """SLSA: the run."""

    builder: Builder
    metadata: BuildMetadata


class Build(Open):
    """``https://slsa.dev/provenance/v1``."""

    buildDefinition: BuildDefinition  # noqa: N815
    runDetails: RunDetails  # noqa: N815


# --- privacy accounting ---------------------------------------------------------------------


class Mechanism(Open):
    """One privacy mechanism with its source."""

    name: Text
    source: Text


class NodeLedger(Span):
    """One node's account over all sessions of the product."""

    node: Name


class Learns(Open):
    """What one party learns."""

    party: Text
    what_zh: Text
    what_en: Text


class Disclosure(Open):
    """Disclosure control of published numbers."""

    cell_min: Annotated[int, Field(ge=1)]
    round_base: Annotated[int, Field(ge=1)]


class Attack(Open):
    """What an automated test or attack measured, and what is allowed."""

    test: Text
    value: int
    limit: int
    unit: Text
    ok: bool


class Privacy(Open):
    """``NS/privacy-accounting/v1``."""

    mechanisms: Annotated[tuple[Mechanism, ...], Field(min_length=1, strict=False)]
    unit: Unit
    consumed: Count
    ledgers: Annotated[tuple[NodeLedger, ...], Field(min_length=1, strict=False)]
    learns: Annotated[tuple[Learns, ...], Field(min_length=1, strict=False)]
    disclosure: Disclosure | None = None
    attacks: Annotated[tuple[Attack, ...], Field(max_length=100, strict=False)] = ()


# --- review ---------------------------------------------------------------------------------


class Verifier(Open):
    """Who reviewed."""

    id: Name


class Finding(Open):
    """One point of the review with its evidence."""

    point: Text
    result: Text
    evidence_sha256: Hex32


class Review(Open):
    """``https://in-toto.io/attestation/svr/v0.2``."""

    verifier: Verifier
    timeCreated: Time  # noqa: N815
    properties: Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]
    findings: Annotated[tuple[Finding, ...], Field(strict=False)] = ()


# --- release --------------------------------------------------------------------------------


class PreviousVersion(Open):
    """The version before, by the digest of its release statement."""

    version: ProductVersion
    sha256: Hex32


class Product(Open):
    """What is released."""

    id: Name
    version: ProductVersion
    form: Form
    name_zh: Text
    name_en: Text
    previous: PreviousVersion | None = None


class Registration(Open):
    """The product's registration."""

    code: Text
    valid_until: Time


class PolicyRef(Open):
    """The release policy that was applied."""

    name: Name
    version: Annotated[int, Field(ge=1)]
    sha256: Hex32


class LinkedStatement(Open):
    """One statement that the release rests on."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,95}$")]
    predicate_type: Text
    sha256: Hex32


class Validity(Open):
    """When the product may be used."""

    not_before: Time
    not_after: Time


class ManifestDigests(Open):
    """Digests of the two payload manifests of the bag."""

    sha256_manifest_sha256: Hex32
    sm3_manifest_sha256: Hex32


class Release(Open):
    """``NS/product-release/v1``: the statement that makes a package a product."""

    product: Product
    registration: Registration
    policy: PolicyRef
    manifest: ManifestDigests
    attestations: Annotated[tuple[LinkedStatement, ...], Field(min_length=1, strict=False)]
    participants: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
    grant: DigestRef
    validity: Validity
    retain_until: Time
    released_at: Time


PREDICATES: dict[str, type[BaseModel]] = {
    RESOURCE: Resource,
    GRANT: Grant,
    NODE_RUN: NodeRun,
    BUILD: Build,
    PRIVACY: Privacy,
    REVIEW: Review,
    RELEASE: Release,
}
"""The model of every predicate type that a package may hold."""

_Predicate_co = TypeVar("_Predicate_co", bound=BaseModel, covariant=True)


@dataclass(frozen=True, slots=True)
class Statement(Generic[_Predicate_co]):
    """An in-toto statement whose predicate was read.

    Attributes:
        predicate_type: one of ``PREDICATES``.
        subjects: SHA-256 hex by name.
        predicate: the model of this type.
    """

    predicate_type: str
    subjects: dict[str, str]
    predicate: _Predicate_co


def read(payload: bytes) -> Statement[BaseModel]:
    """Read a payload whose signature was checked.

    Raises:
        MalformedError: not a statement of a known type, or a field is wrong or missing.
        TooLargeError: too many subjects.
    """
    value = canonical.loads(payload, size_max=LIMITS.envelope_bytes_max)
    if set(value) != {"_type", "subject", "predicateType", "predicate"} or value["_type"] != STATEMENT_TYPE:
        raise MalformedError("expected an in-toto statement v1")
    kind, subjects = value["predicateType"], value["subject"]
    if not isinstance(kind, str) or kind not in PREDICATES:
        raise MalformedError("expected a predicate type that a package may hold")
    if not isinstance(subjects, list) or not subjects:
        raise MalformedError("expected subjects in the statement")
    if len(subjects) > LIMITS.subjects_max:
        raise TooLargeError(f"expected at most {LIMITS.subjects_max} subjects")
    named: dict[str, str] = {}
    for subject in subjects:
        match subject:
            case {"name": str(name), "digest": {"sha256": str(sha256), **other}, **rest} if not rest and not other:
                if name in named:
                    raise MalformedError("expected each subject once")
                named[name] = sha256
            case _:
                raise MalformedError("expected subjects of a name and a SHA-256 digest")
    try:
        return Statement(kind, named, PREDICATES[kind].model_validate(value["predicate"]))
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, item["loc"])) or "predicate" for item in error.errors()})[:5])
        raise MalformedError(f"expected a valid {kind}; wrong or missing: {where}") from None
