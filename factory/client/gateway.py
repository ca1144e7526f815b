"""A small HTTP service that an application unit runs beside its own programs to ask verifications.

The question is blinded here, in the application unit's own process, so the service listens
on the loopback interface alone: over any other wire the question would be readable.

Privacy:
    Records and answers pass through this process only and are neither logged nor kept. What
    leaves it is what ``factory.client.match`` sends: sealed, blinded elements.
"""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from factory.client.match import DishonestNodeError, Matcher, RecordError
from factory.errors import FactoryError, NodeRefusedError
from factory.hub.bus import NodeUnreachableError
from nodes.contract.tasks.match import MatchParameters

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse

PROBLEM_TYPE = "application/problem+json"

STATUS: tuple[tuple[type[FactoryError], int], ...] = (
    (RecordError, 422),
    (NodeRefusedError, 403),
    (NodeUnreachableError, 503),
    (DishonestNodeError, 502),
    (FactoryError, 500),
)
"""HTTP status by error, the narrowest first; the one place where errors become statuses."""


class Problem(BaseModel):
    """Problem Details for HTTP APIs (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")
    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str


class Answer(BaseModel):
    """One answer per record, in the order asked: whether the register holds it."""

    model_config = ConfigDict(extra="forbid")
    matches: list[bool]
    asked: int


def create_app(
    parameters: MatchParameters, *, title: str, description: str, version: str, matcher: Matcher | None = None
) -> "FastAPI":
    """Return the service, or, without ``matcher``, an application that serves to describe it.

    Args:
        parameters: fields and batch size of the signed order.
        title: name of the product.
        description: what a match means.
        version: version of the product.
        matcher: asks the department.
    """
    from fastapi import FastAPI, Request

    app = FastAPI(title=title, description=description, version=version, docs_url=None, redoc_url=None)
    record = _record_model(parameters)
    records = Annotated[list[record], Field(min_length=1, max_length=parameters.batch_max)]  # type: ignore[valid-type]
    body = create_model("Question", __config__=ConfigDict(extra="forbid"), records=(records, ...))
    lock = threading.Lock()

    @app.exception_handler(FactoryError)
    def on_error(_request: Request, error: FactoryError) -> "JSONResponse":
        return _problem(error)

    def verify(question: BaseModel) -> Answer:
        """Ask whether each record is in the department's register."""
        if matcher is None:
            raise NodeUnreachableError("expected a service with an open session; this one only describes itself")
        asked: Sequence[BaseModel] = question.records  # type: ignore[attr-defined]
        with lock:
            matches = matcher.ask([item.model_dump() for item in asked])
        return Answer(matches=list(matches), asked=len(matches))

    verify.__annotations__["question"] = body
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": kind.__name__, "content": {PROBLEM_TYPE: {}}}
        for kind, status in STATUS
        if status != 422
    }
    app.post("/v1/verifications", responses=responses, summary="核验 · Verify records", operation_id="verify")(verify)
    return app


def openapi_document(parameters: MatchParameters, *, title: str, description: str, version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the service, the deliverable of a verification product."""
    return create_app(parameters, title=title, description=description, version=version).openapi()


def _record_model(parameters: MatchParameters) -> type[BaseModel]:
    fields: dict[str, Any] = {
        item.column: (Annotated[str, Field(min_length=1, max_length=200)], ...) for item in parameters.fields
    }
    return create_model("Record", __config__=ConfigDict(extra="forbid"), **fields)


def _problem(error: FactoryError) -> "JSONResponse":
    from fastapi.responses import JSONResponse

    status = next(status for kind, status in STATUS if isinstance(error, kind))
    problem = Problem(title=type(error).__name__, status=status, detail=str(error), code=error.code)
    return JSONResponse(problem.model_dump(), status_code=status, media_type=PROBLEM_TYPE)
