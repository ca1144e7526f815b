"""The data request: one scenario, its list of fields, and a reason for each of them.

The operator writes it as TOML, submits it signed, and the agency rules on it. The list that
is granted is what was justified and not cut.

    scenario = "clinic-risk"
    scenario_title = "门诊风险筛查"
    agreement = "agr-2026-1"
    purpose = "risk-screening"
    product_form = "model"
    need = "…"          value = "…"          goals = ["…"]
    tasks = ["linear.secagg"]     uses_max = 4     days = 90
    [thresholds]   rows_min = 30 …
    [budget]       unit = "session"  total = 4
    [justifications]                      # a reason per column, for all resources below
    age = "…"
    [[parties]]
    node = "node-east"
    [[parties.resources]]
    resource = "res.east.clinic"
    version = 1
    columns = ["age", "target"]
"""

import tomllib
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator

from factory.errors import FactoryError
from nodes.contract.grant import Budget, Thresholds
from nodes.contract.messages import Condition, Message, Name, Part, Text, Time

Form = Literal["model", "verification", "report", "index", "dataset", "interface", "service", "component", "tool"]


class RequestFileError(FactoryError):
    """The request file cannot be read, or a field of it is missing or wrong."""

    code = "registry.request_file"


class FieldAsk(Part):
    """One column that is asked for, and why; without a reason it is cut.

    Attributes:
        column: of the catalogue entry.
        justification: why the scenario cannot do without it.
    """

    column: Text
    justification: Annotated[str, StringConstraints(max_length=2000)] = ""

    @property
    def is_justified(self) -> bool:
        """Whether a reason is given."""
        return bool(self.justification.strip())


class ResourceAsk(Part):
    """What is asked of one catalogue entry.

    Attributes:
        resource: catalogue id.
        version: of the entry.
        fields: columns with their reasons.
        row_filter: conditions that narrow the rows.
    """

    resource: Name
    version: Annotated[int, Field(ge=1)]
    fields: Annotated[tuple[FieldAsk, ...], Field(min_length=1, max_length=400, strict=False)]
    row_filter: Annotated[tuple[Condition, ...], Field(strict=False)] = ()


class PartyAsk(Part):
    """What is asked of one department.

    Attributes:
        node: actor id of its node.
        resources: with their columns.
    """

    node: Name
    resources: Annotated[tuple[ResourceAsk, ...], Field(min_length=1, max_length=50, strict=False)]


class DataRequest(Message):
    """A data request (用数申请) for one scenario.

    Attributes:
        request_id: unique name.
        agreement_id: the authorised-operation agreement it stays within.
        scenario, scenario_title: the one application scenario.
        purpose: purpose code that every order will repeat.
        product_form: what is to be made.
        operator: actor id of who asks.
        need, value: the stated need and its social or economic value.
        goals: what is to be reached within the term.
        parties: departments with resources and fields.
        clients: application units that would take part.
        tasks: tasks that would run.
        uses_max: sessions at each node.
        thresholds, budget: limits the operator proposes; the ruling may only tighten them.
        not_before, not_after: term.
    """

    payload_type: ClassVar[str] = "application/vnd.shufang.data-request.v1+json"

    version: Literal[1] = 1
    request_id: Name
    agreement_id: Name
    scenario: Name
    scenario_title: Text
    purpose: Name
    product_form: Form
    operator: Name
    need: Annotated[str, StringConstraints(max_length=2000)]
    value: Annotated[str, StringConstraints(max_length=2000)]
    goals: Annotated[tuple[Text, ...], Field(max_length=20, strict=False)]
    parties: Annotated[tuple[PartyAsk, ...], Field(min_length=1, max_length=200, strict=False)]
    clients: Annotated[tuple[Name, ...], Field(max_length=200, strict=False)] = ()
    tasks: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
    uses_max: Annotated[int, Field(ge=1)]
    thresholds: Thresholds
    budget: Budget
    not_before: Time
    not_after: Time

    @model_validator(mode="after")
    def _each_once(self) -> "DataRequest":
        nodes = [party.node for party in self.parties]
        if len(set(nodes)) != len(nodes):
            raise ValueError("each party once")
        for _, ask in self.asks():
            columns = [field.column for field in ask.fields]
            if len(set(columns)) != len(columns):
                raise ValueError("each column once")
        return self

    def asks(self) -> list[tuple[str, ResourceAsk]]:
        """Return (node, resource ask) of the whole list."""
        return [(party.node, ask) for party in self.parties for ask in party.resources]


class Agreement(Message):
    """The authorised-operation agreement (授权运营协议): outer limit of every request under it.

    Attributes:
        agreement_id: unique name.
        operator: actor id of the authorised operator.
        agency: organisation that authorised it.
        mode: overall, by sector or by scenario.
        supply_mode: where rows stay.
        domain: the domain that rows do not leave, in words.
        resources: catalogue ids in scope.
        product_forms: what may be made.
        not_before, not_after: term.
    """

    payload_type: ClassVar[str] = "application/vnd.shufang.agreement.v1+json"

    version: Literal[1] = 1
    agreement_id: Name
    title: Text
    operator: Name
    agency: Name
    mode: Literal["overall", "sector", "scenario"]
    supply_mode: Literal["federated", "central"] = "federated"
    domain: Text = "数源单位节点所在的本单位环境 the department's own environment, where its node runs"
    resources: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
    product_forms: Annotated[tuple[Form, ...], Field(min_length=1, strict=False)]
    not_before: Time
    not_after: Time

    @property
    def document_name(self) -> str:
        """File name of the document, the subject of grants under it."""
        return f"{self.agreement_id}.json"


def read_request(text: str, *, operator: str, now: datetime) -> DataRequest:
    """Read a request from TOML.

    Args:
        text: the file; see the module text.
        operator: actor id of who asks.
        now: start of the term where the file gives ``days``.

    Raises:
        RequestFileError: not TOML, or a field is missing or wrong; names the field.
    """
    try:
        value: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RequestFileError(f"expected a TOML file: {error}") from error
    start = now.replace(microsecond=0)
    reasons = value.pop("justifications", {})
    value["agreement_id"] = value.pop("agreement", None)
    value.setdefault("request_id", f"req-{value.get('scenario', '')}-{start:%Y%m%d%H%M%S}")
    if "days" in value:
        value["not_before"], value["not_after"] = start, start + timedelta(days=int(value.pop("days")))
    for party in value.get("parties", []):
        for resource in party.get("resources", []):
            own = {**reasons, **resource.pop("justifications", {})}
            resource["fields"] = [
                {"column": column, "justification": own.get(column, "")} for column in resource.pop("columns", [])
            ]
    try:
        return DataRequest.model_validate({**value, "operator": operator})
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, item["loc"])) or "request" for item in error.errors()})[:5])
        raise RequestFileError(f"expected a complete data request; wrong or missing: {where}") from None


def read_agreement(text: str) -> Agreement:
    """Read an agreement from TOML.

    Raises:
        RequestFileError: not TOML, or a field is missing or wrong; names the field.
    """
    try:
        return Agreement.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise RequestFileError(f"expected a TOML file: {error}") from error
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, item["loc"])) or "agreement" for item in error.errors()})[:5])
        raise RequestFileError(f"expected a complete agreement; wrong or missing: {where}") from None
