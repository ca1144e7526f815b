"""The grant: what an operator may do with which columns, for which purpose, until when.

One grant serves one scenario. The agency's registrars and every department named in it
sign the same payload; a node runs an order only under a grant that carries its own
department's signature and the agency's. It is what the law calls 授权 after the ruling
on one scenario's list (一场景一清单一审定).
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nodes.contract.messages import Count, Hex32, Name, Part, ResourceUse, Text, Time


class Party(Part):
    """One department of the grant and what of it may be used.

    Attributes:
        node: actor id of the department's node.
        resources: catalogue entries with their columns and row filters.
    """

    node: Name
    resources: Annotated[tuple[ResourceUse, ...], Field(min_length=1, strict=False)]


class Thresholds(Part):
    """Limits on what may leave, each enforced by the node or service that could leak.

    Attributes:
        rows_min: fewest rows with which a node takes part.
        contributors_min: fewest nodes in any sum that is opened.
        cell_min: fewest entities behind a published number.
        round_base: published counts are multiples of this; 1 means exact.
        quality_score_min: lowest quality score in hundredths (9_000 is 90.00) of a resource.
    """

    rows_min: Count
    contributors_min: Annotated[int, Field(ge=1)]
    cell_min: Annotated[int, Field(ge=1)]
    round_base: Annotated[int, Field(ge=1)]
    quality_score_min: Annotated[int, Field(ge=0, le=10_000)]


class Budget(Part):
    """What the sessions under this grant may use up, counted by each node on its own.

    Attributes:
        unit: what is counted: ``"session"`` for exact protocols, ``"query"`` for lookups,
            ``"epsilon_micro"`` for differential privacy.
        total: how many units; each node keeps its own account.
    """

    unit: Literal["session", "query", "epsilon_micro"]
    total: Count


class Grant(Part):
    """Permission for one scenario; see the module text. The predicate of a signed statement.

    Attributes:
        grant_id: unique name.
        agreement_id: the authorised-operation agreement above it.
        scenario, scenario_title: the one application scenario.
        purpose: purpose code that every order repeats.
        product_form: what may be made, e.g. ``"model"``.
        operator: actor id of the grantee.
        registrars: actor ids of the agency's signers.
        parties: departments with their resources; each signs.
        clients: application units that may take part in sessions.
        tasks: names of the tasks that may run.
        uses_max: sessions each node accepts under this grant.
        request_sha256: digest of the data request that was ruled on.
        not_before, not_after: window.
    """

    version: Literal[1] = 1
    grant_id: Name
    agreement_id: Name
    scenario: Name
    scenario_title: Text
    purpose: Name
    product_form: Literal[
        "model", "verification", "report", "index", "dataset", "interface", "service", "component", "tool"
    ]
    operator: Name
    registrars: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
    parties: Annotated[tuple[Party, ...], Field(min_length=1, max_length=200, strict=False)]
    clients: Annotated[tuple[Name, ...], Field(max_length=200, strict=False)] = ()
    tasks: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
    uses_max: Annotated[int, Field(ge=1)]
    thresholds: Thresholds
    budget: Budget
    request_sha256: Hex32
    issued_at: Time
    not_before: Time
    not_after: Time

    @model_validator(mode="after")
    def _consistent(self) -> "Grant":
        if self.not_after <= self.not_before:
            raise ValueError("not_after must come after not_before")
        nodes = [party.node for party in self.parties]
        if len(set(nodes)) != len(nodes):
            raise ValueError("each party once")
        return self

    def party(self, node: str) -> Party | None:
        """Return what the grant says of ``node``, or None if it is not a party."""
        return next((party for party in self.parties if party.node == node), None)
