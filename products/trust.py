"""Who is who, what is in force and what a release needs: the targets of the trust repository.

The formats are those of ``docs/reference/trust.md``; ``actors.json`` and ``status.json`` are the same
documents that ``nodes.contract.trust`` reads, read here on their own so that an auditor
installs the verifier alone. ``products.repository`` checks the signatures around them.
"""

import base64
import binascii
import hashlib
from datetime import datetime
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from products import canonical
from products.errors import MalformedError
from products.fields import Closed, Count, Name, Text, Time
from products.forms import BUILD, FORMS, GRANT, NODE_RUN, PRIVACY, RELEASE, RESOURCE, REVIEW, Form
from products.limits import LIMITS

Role = Literal["operator", "node", "agency", "registrar", "reviewer", "application_unit", "log", "witness"]
_Model = TypeVar("_Model", bound=BaseModel)


class Actor(Closed):
    """One key of one signer; the same id stands once per key after a rotation."""

    id: Name
    organisation: Name
    title_zh: Text
    title_en: Text
    roles: Annotated[tuple[Role, ...], Field(min_length=1, strict=False)]
    statement_spki: str
    sealing_key: str = ""
    hub_spki: str = ""
    tls_spki_sha256: str = ""
    sm2_spki: str = ""
    not_before: Time
    not_after: Time
    compromised_since: Time | None = None
    removed_at: Time | None = None

    @property
    def spki(self) -> bytes:
        """DER public key of its statements.

        Raises:
            MalformedError: not base64.
        """
        try:
            return base64.b64decode(self.statement_spki, validate=True)
        except (binascii.Error, ValueError) as error:
            raise MalformedError(f"expected a base64 key of {self.id}") from error

    @property
    def keyid(self) -> str:
        """SHA-256 of the key as hex, its name in envelopes."""
        return hashlib.sha256(self.spki).hexdigest()

    def is_valid_at(self, moment: datetime) -> bool:
        """Whether a signature made at ``moment`` counts."""
        ends = [end for end in (self.compromised_since, self.removed_at) if end is not None]
        return self.not_before <= moment < self.not_after and all(moment < end for end in ends)


class Actors(Closed):
    """``actors.json``."""

    version: Literal[1] = 1
    actors: Annotated[tuple[Actor, ...], Field(strict=False)]

    @model_validator(mode="after")
    def _distinct(self) -> "Actors":
        keys = [actor.statement_spki for actor in self.actors]
        if len(set(keys)) != len(keys):
            raise ValueError("each statement key once")
        organisations: dict[str, str] = {}
        if any(organisations.setdefault(a.id, a.organisation) != a.organisation for a in self.actors):
            raise ValueError("one organisation per actor")
        return self

    def by_keyid(self) -> dict[str, Actor]:
        """Return the actors by the id of their statement key."""
        return {actor.keyid: actor for actor in self.actors}


class StatusItem(Closed):
    """One suspension, revocation or supersession in force."""

    subject_kind: Literal["grant", "resource", "product", "key", "actor", "release"]
    subject: Text
    state: Literal["suspended", "revoked", "superseded"]
    since: Time
    reason: Text


class Status(Closed):
    """``status.json``: what is in force now."""

    version: Literal[1] = 1
    items: Annotated[tuple[StatusItem, ...], Field(strict=False)]


class SignerRule(Closed):
    """Who has to sign statements of one type; ``docs/reference/trust.md`` says what the fields mean."""

    role: Role
    who: Literal["any", "participants", "subject"] = "any"
    count_min: Annotated[int, Field(ge=1, le=100)] = 1
    organisations_min: Annotated[int, Field(ge=1, le=100)] = 1
    organisations_apart_from: Annotated[tuple[Role, ...], Field(strict=False)] = ()


class FormPolicy(Closed):
    """What a release of one form needs."""

    required: Annotated[tuple[str, ...], Field(strict=False)]
    review_properties: Annotated[tuple[str, ...], Field(strict=False)]


class ReleasePolicy(Closed):
    """``release-policy.json``: the agency's thresholds as data; profile ``gm`` asks for SM2 signatures throughout."""

    version: Literal[1] = 1
    name: Name
    policy_version: Annotated[int, Field(ge=1)]
    profile: Literal["standard", "gm"] = "standard"
    clock_skew_s_max: Count
    release_delay_s_max: Count
    retain_years_min: Annotated[int, Field(ge=5, le=1000)]
    quality_age_days_max: Annotated[int, Field(ge=1)]
    signers: dict[str, Annotated[tuple[SignerRule, ...], Field(min_length=1, strict=False)]]
    forms: dict[Form, FormPolicy]


REVIEW_PROPERTIES = (
    "SHUFANG_PURPOSE_AND_SCOPE",
    "SHUFANG_SOURCES_STATED",
    "SHUFANG_NO_EXPOSURE",
    "SHUFANG_NO_LEAK_OR_ABUSE",
    "SHUFANG_CROSS_BORDER",
    "SHUFANG_OTHER_POINTS",
)
"""What each reviewer confirms under the default policy: the six points of the evaluation review 评估审核.

Source: Guangdong, article 26; LIFECYCLE section 5, tested to reviewed."""

DEFAULT_RELEASE_POLICY = ReleasePolicy(
    name="release-policy.default",
    policy_version=1,
    clock_skew_s_max=300,
    release_delay_s_max=7 * 86_400,
    retain_years_min=5,
    quality_age_days_max=366,
    signers={
        RESOURCE: (SignerRule(role="node", who="subject"),),
        GRANT: (SignerRule(role="registrar", count_min=2), SignerRule(role="node", who="subject")),
        NODE_RUN: (SignerRule(role="node", who="subject"),),
        BUILD: (SignerRule(role="operator"), SignerRule(role="node", who="participants")),
        PRIVACY: (SignerRule(role="node", who="participants"),),
        REVIEW: (
            SignerRule(
                role="reviewer",
                count_min=2,
                organisations_min=2,
                organisations_apart_from=("operator", "node"),
            ),
        ),
        RELEASE: (
            SignerRule(role="operator"),
            SignerRule(role="node", who="participants"),
            SignerRule(role="registrar", count_min=2),
        ),
    },
    forms={
        form: FormPolicy(
            required=(RESOURCE, GRANT, NODE_RUN, BUILD, PRIVACY, REVIEW), review_properties=REVIEW_PROPERTIES
        )
        for form in FORMS
    },
)
"""A complete policy: every predicate type required, two registrars, two reviewers of two other organisations.

Five years is the retention floor of the network-log and audit clauses; the counts are the
separation of duties of PROVENANCE 3.2."""


def read_target(model: type[_Model], name: str, data: bytes) -> _Model:
    """Parse one JSON target.

    Raises:
        MalformedError: not canonical JSON of this model.
    """
    value = canonical.loads(data, size_max=LIMITS.metadata_bytes_max)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, item["loc"])) or "document" for item in error.errors()})[:5])
        raise MalformedError(f"expected a valid {name}; wrong or missing: {where}") from None
