"""Jurisdiction profiles: one engine, data decides. Pure.

A profile is a closed table of parameters. Each value carries the clauses it comes from, or the
point of the decision record that set it where the texts are silent. Three layers are laid over
each other: NATIONAL, the jurisdiction, and what the deployer set. A word of a text that has no
number (及时, 第一时间, 立即, 定期, 规定期限) stays unset until the deployer sets it, and nothing starts
before that.

Source:
    regulations/LIFECYCLE.md sections 11 and 12; docs/decisions/0017-the-law-as-data.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from factory.law.errors import ProfileMalformedError, ProfileUnknownError, ProfileUnsetError
from factory.law.limits import Limit

Code = Literal["NATIONAL", "SD", "JN", "JL", "SZ", "GD"]
CODES: tuple[Code, ...] = get_args(Code)

Body = Literal[
    "agency",
    "data_administration",
    "sector_authority",
    "authorising_unit",
    "source_department",
    "operator",
    "government",
    "pricing_authority",
    "finance_authority",
    "cyberspace_office",
    "public_security",
    "competent_departments",
    "security_head",
]
"""Bodies that a text names. ``agency`` is the implementing agency (实施机构)."""

GroundKind = Literal["term", "own_request", "breach", "unable", "unsafe", "assessment", "law", "prohibited", "other"]
"""Grounds of exit, merged from the texts: end of term, own request, breach not rectified, business restriction or
risk, safety hazard not mended, failed assessment, change of law, prohibited act, other."""


def _limit(value: object) -> object:
    if value is None or isinstance(value, Limit):
        return value
    return Limit.parse(str(value))


TimeLimit = Annotated[Limit, BeforeValidator(_limit)]
"""A limit that the profile must set."""


def _limit_or_none(value: object) -> object:
    return "none" if value == "none" else _limit(value)


OptionalLimit = Annotated[Limit | Literal["none"], BeforeValidator(_limit_or_none)]


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class AgreementRules(_Rules):
    """Selection of the operator and the agreement.

    Attributes:
        agency_is: body that the text makes the implementing agency; ``agency`` where a body is set case by case.
        operator_forms: kinds of body that may operate.
        modes: modes of authorisation.
        joint_modes: modes that the sector authority has to co-sign.
        one_operator: exactly one operator in the jurisdiction.
        government_approves: the government approves the selection before publicity.
        lookback_years: years without a qualifying incident or violation; 0 for none.
        publicity: shortest publicity of the result.
        sections: how many sections the agreement has.
        finance_opinion: the finance authority's opinion where revenue is shared.
        term_max_years: longest term.
        term_from: what the longest term counts from.
        filing, filed_with: limit after signature, and with whom.
        change_filing: limit after a change or the end.
        disclosure: limit for publishing object, content, scope and term.
        renew_from_months, renew_until_months: window before the end in which renewal is filed; 0 for none.
    """

    agency_is: Body
    operator_forms: Annotated[tuple[Literal["legal_person", "unincorporated"], ...], Field(min_length=1)]
    modes: Annotated[tuple[Literal["overall", "sector", "scenario"], ...], Field(min_length=1)]
    joint_modes: tuple[Literal["overall", "sector", "scenario"], ...]
    one_operator: bool
    government_approves: bool
    lookback_years: Annotated[int, Field(ge=0, le=10)]
    publicity: TimeLimit
    sections: Annotated[int, Field(ge=1, le=30)]
    finance_opinion: bool
    term_max_years: Annotated[int, Field(ge=1, le=10)]
    term_from: Literal["start", "signature"]
    filing: OptionalLimit
    filed_with: tuple[Body, ...]
    change_filing: OptionalLimit
    disclosure: OptionalLimit
    renew_from_months: Annotated[int, Field(ge=0, le=60)]
    renew_until_months: Annotated[int, Field(ge=0, le=60)]


class RequestRules(_Rules):
    """Data requests and grants.

    Attributes:
        approvers: bodies that each have to approve.
        operator_screens: the operator screens the scenario first.
        scenario_bodies: bodies that argue compliance and necessity of a scenario first.
        developers_ask: developers may ask for data of an argued scenario.
        ruling: limit for the ruling.
    """

    approvers: Annotated[tuple[Body, ...], Field(min_length=1)]
    operator_screens: bool
    scenario_bodies: tuple[Body, ...]
    developers_ask: bool
    ruling: OptionalLimit


class SupplyRules(_Rules):
    """Supply and quality of resources.

    Attributes:
        mode: where rows stay.
        deadline: limit to bind a resource after it came into scope.
        rectify: limit to put right a quality problem.
        answer: limit to decide on reported quality problems.
        quality_dimensions: dimensions of GB/T 36344 that the text names.
    """

    mode: Literal["federated", "central"]
    deadline: OptionalLimit
    rectify: TimeLimit
    answer: TimeLimit
    quality_dimensions: Annotated[tuple[str, ...], Field(min_length=1)]


class ProductRules(_Rules):
    """Products from the list to release.

    Attributes:
        list_filed: the product list is filed and public before release.
        demand_required: each product answers an application unit's demand.
        reviewed_by: body that evaluates a product.
        review_points: number of points with a finding each.
        review: limit for the result.
        report_required: an evaluation report with ten items precedes release.
        report_to: bodies that acknowledge it.
        registered_before_release: no release without a code.
        registration_linked: the registration names the registrations of its sources.
        security_head_signs: the operator's security head signs the release.
        exchange_required: trading goes through an exchange.
        cross_border_point: the review has a finding on data leaving the country.
        operator_redevelops: whether the operator may redevelop what it delivered.
    """

    list_filed: bool
    demand_required: bool
    reviewed_by: Body
    review_points: Annotated[int, Field(ge=1, le=12)]
    review: OptionalLimit
    report_required: bool
    report_to: tuple[Body, ...]
    registered_before_release: bool
    registration_linked: bool
    security_head_signs: bool
    exchange_required: bool
    cross_border_point: bool
    operator_redevelops: bool


class ReviewRules(_Rules):
    """How far an attack on a product may succeed before it goes back to *building*.

    Attributes:
        membership_auc_micro: area of the attack by confidence; 500 000 is a coin.
        ratio_auc_micro: area of the attack by likelihood ratio, which knows the population.
        ratio_hits_micro: share of members that it tells at one mistake in a hundred.
        attribute_advantage_micro: how much more often a feature is inferred of training than of other rows.
        memorised_rows: rows whose own label the model memorised.
        reconstructed_rows: rows rebuilt from what was opened in training.
        index_weight_micro: largest share of one domain in a score.
        enumeration_records: records one program is answered before an alarm holds its key.
        records_minute: records one application unit may ask in a minute.
        timing_auc_micro: area of telling a hit from a miss by its time.
    """

    membership_auc_micro: Annotated[int, Field(ge=500_000, le=1_000_000)]
    ratio_auc_micro: Annotated[int, Field(ge=500_000, le=1_000_000)]
    ratio_hits_micro: Annotated[int, Field(ge=10_000, le=1_000_000)]
    attribute_advantage_micro: Annotated[int, Field(ge=0, le=1_000_000)]
    memorised_rows: Annotated[int, Field(ge=0, le=1000)]
    reconstructed_rows: Annotated[int, Field(ge=0, le=1000)]
    index_weight_micro: Annotated[int, Field(ge=333_333, le=1_000_000)]
    enumeration_records: Annotated[int, Field(ge=1, le=100_000)]
    records_minute: Annotated[int, Field(ge=1, le=1_000_000)]
    timing_auc_micro: Annotated[int, Field(ge=500_000, le=1_000_000)]


class RegistrationRules(_Rules):
    """Registration at the registry (26号).

    Attributes:
        first: limit after provision or delivery to apply.
        accept, form_review, publicity, cancel: limits of the steps.
        validity_years, renewal_max_years: of a code and of each renewal.
        renewal_window: before the end.
    """

    first: TimeLimit
    accept: TimeLimit
    form_review: TimeLimit
    publicity: TimeLimit
    cancel: TimeLimit
    validity_years: Annotated[int, Field(ge=1, le=10)]
    renewal_max_years: Annotated[int, Field(ge=1, le=10)]
    renewal_window: TimeLimit


class IncidentRules(_Rules):
    """Data-security incidents.

    Attributes:
        notify: bodies that learn of it.
        notice: limit of the first notice, from detection.
        possible_harm_counts: possible harm to personal information opens a case already.
        application_units_too: application units have the operator's duties as well.
        drill: longest interval between drills.
    """

    notify: Annotated[tuple[Body, ...], Field(min_length=1)]
    notice: TimeLimit
    possible_harm_counts: bool
    application_units_too: bool
    drill: TimeLimit


class StandingRules(_Rules):
    """Standing of the operator.

    Attributes:
        closed_by: bodies that may order rectification and close access.
        restored_by: bodies that decide on restoration.
        immediate_end: a prohibited act ends access at once, without rectification.
        exit_grounds: kinds of ground that start the exit.
        exit_duty: whether a confirmed ground obliges or entitles the agency to end the agreement.
        log_retention: how long complete logs are kept.
        exit_report_to: who is told of an exit.
    """

    closed_by: Annotated[tuple[Body, ...], Field(min_length=1)]
    restored_by: Annotated[tuple[Body, ...], Field(min_length=1)]
    immediate_end: bool
    exit_grounds: Annotated[tuple[GroundKind, ...], Field(min_length=1)]
    exit_duty: Literal["must", "may"]
    log_retention: TimeLimit
    exit_report_to: tuple[Body, ...]


class DutyRules(_Rules):
    """Recurring duties.

    Attributes:
        plan_filing: limit after approval of the plan.
        operator_report, operator_report_to: interval of the operator's report and its readers.
        agency_report_to: readers of the agency's report on the past year.
        yearly_due: month and day by which yearly reports and disclosures are out.
        usage_report: interval of reports on use and effect.
        inspection, assessment: intervals.
    """

    plan_filing: OptionalLimit
    operator_report: TimeLimit
    operator_report_to: tuple[Body, ...]
    agency_report_to: tuple[Body, ...]
    yearly_due: Annotated[str, Field(pattern=r"^(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]
    usage_report: TimeLimit
    inspection: TimeLimit
    assessment: TimeLimit


@dataclass(frozen=True, slots=True)
class Leaf:
    """One parameter as a layer states it.

    Attributes:
        value: as in the file; None for a word without a number.
        clauses: where it comes from.
        decision: point of the decision record that set it, 0 for none.
        word: the word of the text that has no number.
        propose: value proposed to the deployer.
        is_choice: the deployer may choose another value.
        layer: who stated it: a profile's code, or ``deployer``.
    """

    value: Any
    clauses: tuple[str, ...] = ()
    decision: int = 0
    word: str = ""
    propose: str = ""
    is_choice: bool = False
    layer: str = ""

    @property
    def cited(self) -> tuple[str, ...]:
        """Clauses, or the point of the decision record."""
        return self.clauses or (f"D-{self.decision}",)


class Profile(_Rules):
    """A complete profile: every parameter has a value.

    Attributes:
        code: of the jurisdiction.
        name_zh, name_en: its names.
        status_zh, status_en: whether the text is in force.
        valid_from, valid_to: of the text, where it names days.
        sources: the leaf behind each parameter, by dotted key.
    """

    code: Code
    name_zh: str
    name_en: str
    status_zh: str
    status_en: str
    valid_from: date | None = None
    valid_to: date | None = None
    agreement: AgreementRules
    request: RequestRules
    supply: SupplyRules
    product: ProductRules
    review: ReviewRules
    registration: RegistrationRules
    incident: IncidentRules
    standing: StandingRules
    duties: DutyRules
    sources: Mapping[str, Leaf]

    def value(self, key: str) -> Any:
        """Return the value of a dotted key such as ``request.ruling``."""
        section, _, name = key.partition(".")
        return getattr(getattr(self, section), name)

    def limit(self, key: str) -> Limit | None:
        """Return a limit by its dotted key, or None where the text asks for none.

        Raises:
            KeyError: the key names no limit.
        """
        value = self.value(key)
        if value == "none":
            return None
        if not isinstance(value, Limit):
            raise KeyError(key)
        return value

    def as_named(self, role: str) -> str:
        """Return the body that a role is in this jurisdiction: its agency may be its data administration."""
        return self.agreement.agency_is if role == "agency" else role

    def cited(self, key: str) -> tuple[str, ...]:
        """Return where the value of a dotted key comes from."""
        return self.sources[key].cited


SECTIONS: Mapping[str, type[_Rules]] = {
    "agreement": AgreementRules,
    "request": RequestRules,
    "supply": SupplyRules,
    "product": ProductRules,
    "review": ReviewRules,
    "registration": RegistrationRules,
    "incident": IncidentRules,
    "standing": StandingRules,
    "duties": DutyRules,
}
KEYS: tuple[str, ...] = tuple(f"{section}.{name}" for section, kind in SECTIONS.items() for name in kind.model_fields)
"""Every parameter, by dotted key."""

_HEAD = ("code", "name_zh", "name_en", "status_zh", "status_en", "valid_from", "valid_to")


@dataclass(frozen=True, slots=True)
class Layer:
    """What one file states.

    Attributes:
        head: code, names, status and validity.
        leaves: parameters by dotted key.
    """

    head: Mapping[str, Any]
    leaves: Mapping[str, Leaf]


def read_layer(tables: Mapping[str, Any]) -> Layer:
    """Read a jurisdiction's file.

    Raises:
        ProfileMalformedError: a parameter is not known, or has neither a value with its source nor a word.
    """
    head = {name: tables[name] for name in _HEAD if name in tables}
    code = head.get("code")
    if code not in CODES:
        raise ProfileMalformedError(f"expected code to be one of {', '.join(CODES)}, got {str(code)[:40]!r}")
    leaves = {}
    for section, table in tables.items():
        if section in _HEAD:
            continue
        if section not in SECTIONS or not isinstance(table, Mapping):
            raise ProfileMalformedError(f"{code}: expected one of the tables {', '.join(SECTIONS)}, got {section}")
        for name, content in table.items():
            leaves[f"{section}.{name}"] = _leaf(str(code), f"{section}.{name}", content)
    return Layer(head, leaves)


def _leaf(code: str, key: str, content: object) -> Leaf:
    if key not in KEYS:
        raise ProfileMalformedError(f"{code}: there is no parameter {key}")
    known = {"value", "clauses", "decision", "word", "propose", "choice"}
    if not isinstance(content, Mapping) or not set(content) <= known:
        raise ProfileMalformedError(f"{code}: expected {key} as a table of {', '.join(sorted(known))}")
    leaf = Leaf(
        value=content.get("value"),
        clauses=tuple(content.get("clauses", ())),
        decision=content.get("decision", 0),
        word=content.get("word", ""),
        propose=content.get("propose", ""),
        is_choice=content.get("choice", False),
        layer=code,
    )
    if (leaf.value is None) == (not leaf.word):
        raise ProfileMalformedError(f"{code}: expected a value or a word for {key}, not both")
    if leaf.word and not leaf.propose:
        raise ProfileMalformedError(f"{code}: expected a proposed value for the word of {key}")
    if not leaf.clauses and not leaf.decision:
        raise ProfileMalformedError(f"{code}: expected the clauses of {key}, or the point of the decision record")
    return leaf


def lay(*layers: Layer) -> Layer:
    """Lay layers over each other; a later one wins, parameter by parameter."""
    head: dict[str, Any] = {}
    leaves: dict[str, Leaf] = {}
    for layer in layers:
        head |= layer.head
        leaves |= layer.leaves
    return Layer(head, leaves)


def with_choices(layer: Layer, choices: Mapping[str, Any]) -> Layer:
    """Lay over what the deployer set.

    Args:
        layer: of the jurisdiction, over NATIONAL.
        choices: value by dotted key.

    Raises:
        ProfileMalformedError: no such parameter, or the text itself fixes it.
    """
    leaves = dict(layer.leaves)
    for key, value in choices.items():
        leaf = leaves.get(key)
        if leaf is None:
            raise ProfileMalformedError(f"there is no parameter {key}; see `shufang profile show`")
        if not leaf.word and not leaf.is_choice:
            raise ProfileMalformedError(
                f"expected words without a number alone under [set]; {key} is fixed by {', '.join(leaf.cited)}"
            )
        leaves[key] = Leaf(
            value, leaf.clauses, leaf.decision, leaf.word, leaf.propose, is_choice=leaf.is_choice, layer="deployer"
        )
    return Layer(layer.head, leaves)


def unset(layer: Layer) -> tuple[tuple[str, Leaf], ...]:
    """Return the words that nobody set yet, with their keys."""
    return tuple((key, layer.leaves[key]) for key in KEYS if key in layer.leaves and layer.leaves[key].value is None)


def proposed_line(key: str, leaf: Leaf) -> str:
    """Return the line for law.toml that would set a word as proposed."""
    return f'"{key}" = "{leaf.propose}"  # {leaf.word} ({", ".join(leaf.cited)})'


def complete(layer: Layer) -> Profile:
    """Return the profile.

    Raises:
        ProfileMalformedError: a parameter is missing, or its value is not of its kind; names it.
        ProfileUnsetError: a word is not set.
    """
    code = str(layer.head.get("code"))
    missing = [key for key in KEYS if key not in layer.leaves]
    if missing:
        raise ProfileMalformedError(f"{code}: expected every parameter; missing: {', '.join(missing[:5])}")
    waiting = unset(layer)
    if waiting:
        raise ProfileUnsetError(code, tuple(proposed_line(key, leaf) for key, leaf in waiting))
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for key, leaf in layer.leaves.items():
        section, _, name = key.partition(".")
        values[section][name] = leaf.value
    try:
        return Profile.model_validate({**layer.head, **values, "sources": dict(layer.leaves)})
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, item['loc'][:2]))}: {item['msg']}" for item in error.errors()[:3])
        raise ProfileMalformedError(f"{code}: {told}") from None


def known_code(text: str) -> Code:
    """Return the code of a profile.

    Raises:
        ProfileUnknownError: there is none of this name.
    """
    for code in CODES:
        if code == text:
            return code
    raise ProfileUnknownError(f"expected one of {', '.join(CODES)}, got {text[:40]!r}")
