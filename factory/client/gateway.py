"""A small HTTP service that an application unit runs beside its own programs to ask verifications.

The question is blinded here, in the application unit's own process, so the service listens
on the loopback interface alone: over any other wire the question would be readable. Programs
call it with a key of their own (``shufang client key add``), bound to a purpose and a quota.

Privacy:
    Records pass through this process only and are neither logged nor kept; see
    ``factory.client.books`` for what is. What leaves it is what ``factory.client.match``
    sends: sealed, blinded elements.
"""

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from factory.client.books import (
    Books,
    IdempotencyError,
    KeyHeldError,
    ProgramKeyError,
    PurposeError,
    QuotaError,
)
from factory.client.match import DishonestNodeError, Found, Matcher, RecordError
from factory.client.watching import WINDOW, Watch
from factory.errors import FactoryError, NodeRefusedError
from factory.hub.bus import NodeUnreachableError
from nodes.contract.errors import ContractError
from nodes.contract.messages import RefusalCode
from nodes.contract.tasks.match import MatchParameters

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse

PROBLEM_TYPE = "application/problem+json"

STATUS: tuple[tuple[type[FactoryError], int], ...] = (
    (ProgramKeyError, 401),
    (KeyHeldError, 403),
    (PurposeError, 403),
    (NodeRefusedError, 403),
    (IdempotencyError, 409),
    (RecordError, 422),
    (QuotaError, 429),
    (NodeUnreachableError, 503),
    (DishonestNodeError, 502),
    (FactoryError, 500),
)
"""HTTP status by error, the narrowest first; the one place where errors become statuses."""

RECORDS_MAX = 10_000


class Problem(BaseModel):
    """Problem Details for HTTP APIs (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")
    type: str
    title: str
    status: int
    detail: str
    code: str


class Item(BaseModel):
    """What the register says of one record."""

    model_config = ConfigDict(extra="forbid")
    match: bool
    band: str | None = None


class Answer(BaseModel):
    """One item per record, in the order asked."""

    model_config = ConfigDict(extra="forbid")
    answers: list[Item]
    asked: int


@dataclass(slots=True, repr=False)
class Counter:
    """What answers calls: the matcher, the unit's books, and a watch per key.

    Attributes:
        matcher: asks the department; one batch at a time.
        books: keys, quotas, receipts.
        now: clock.
    """

    matcher: Matcher
    books: Books
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _watches: dict[str, Watch] = field(default_factory=lambda: defaultdict(Watch))

    def __post_init__(self) -> None:
        session = self.matcher.order.session_id
        self.matcher.keep = lambda receipt: self.books.keep_receipt(receipt, session=session, now=self.now())

    def answer(
        self, secret: str, purpose: str, records: Sequence[dict[str, str]], *, idempotency_key: str = ""
    ) -> dict[str, Any]:
        """Answer one call.

        Args:
            secret: key of the program.
            purpose: what it is for.
            records: what is asked.
            idempotency_key: of the call, or empty.

        Raises:
            FactoryError: see ``STATUS``; nothing is counted if the key, purpose, quota or records do not fit.
        """
        order, now = self.matcher.order, self.now()
        key = self.books.admit(secret, purpose=purpose, granted=order.purpose, now=now)
        body = json.dumps([purpose, records], sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
        body_sha256 = hashlib.sha256(body).hexdigest()
        with self._lock:
            if idempotency_key:
                before = self.books.answered(key, idempotency_key, body_sha256, now=now)
                if before is not None:
                    return dict(before)
            self.matcher.check(records)
            self.books.count(key, len(records), session=order.session_id, now=now)
            found = self._watched(key.name, records, now)
            answer = {"answers": [_item(item) for item in found], "asked": len(found)}
            if idempotency_key:
                self.books.keep_answer(key, idempotency_key, body_sha256, answer, now=now)
        return answer

    def _watched(self, name: str, records: Sequence[dict[str, str]], now: datetime) -> list[Found]:
        """Look records up in parts and watch each, so that one long call is stopped as many short ones are."""
        watch, found = self._watches[name], list[Found]()
        size = watched_together(self.matcher.parameters)
        for start in range(0, len(records), size):
            part = records[start : start + size]
            found += self.matcher.look_up(part)
            alarm = watch.see([list(record.values()) for record in part], [item.match for item in found[start:]])
            if alarm is None:
                continue
            watch.clear()
            self.books.alarm(name, alarm.kind, {"percent": alarm.percent, "limit": alarm.limit}, now=now)
            if len(found) < len(records):
                raise KeyHeldError(
                    f"expected questions as of a program that verifies; an alarm ({alarm.kind}) holds the key after "
                    f"{len(found)} of {len(records)} records, none is answered; next: shufang client alarms"
                )
        return found


def watched_together(parameters: MatchParameters) -> int:
    """Return how many records of a call are looked up before the watch looks at them."""
    return max(parameters.batch_max, WINDOW)


def create_app(
    parameters: MatchParameters, *, title: str, description: str, version: str, counter: Counter | None = None
) -> "FastAPI":
    """Return the service, or, without ``counter``, an application that serves to describe it.

    Args:
        parameters: fields and batch size of the signed order.
        title: name of the product.
        description: what a match means.
        version: version of the product.
        counter: answers calls.
    """
    from fastapi import Depends, FastAPI, Header, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

    app = FastAPI(title=title, description=description, version=version, docs_url=None, redoc_url=None)
    record = _record_model(parameters)
    records = Annotated[list[record], Field(min_length=1, max_length=RECORDS_MAX)]  # type: ignore[valid-type]
    body = create_model(
        "Question",
        __config__=ConfigDict(extra="forbid"),
        purpose=(Annotated[str, Field(min_length=1, max_length=96)], ...),
        records=(records, ...),
    )
    bearer = HTTPBearer(auto_error=False, description="shufang client key add")

    @app.exception_handler(FactoryError)
    def on_error(_request: Request, error: FactoryError) -> "JSONResponse":
        return _problem(_status(error), error.code, str(error))

    @app.exception_handler(ContractError)
    def on_trust(_request: Request, error: ContractError) -> "JSONResponse":
        return _problem(503, error.code, f"{error}; bring newer trust data into the home")

    @app.exception_handler(RequestValidationError)
    def on_malformed(_request: Request, error: RequestValidationError) -> "JSONResponse":
        where = sorted({".".join(map(str, item["loc"])) for item in error.errors()})[:5]
        return _problem(422, "client.request", f"expected a body as the description says; wrong: {', '.join(where)}")

    def verify(
        question: BaseModel,
        bearing: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)] = None,
        idempotency_key: Annotated[str, Header(alias="Idempotency-Key", max_length=200)] = "",
    ) -> Answer:
        """Ask whether each record is in the department's register."""
        if counter is None:
            raise NodeUnreachableError("expected a service with an open session; this one only describes itself")
        asked: Sequence[BaseModel] = question.records  # type: ignore[attr-defined]
        answer = counter.answer(
            bearing.credentials if bearing else "",
            question.purpose,  # type: ignore[attr-defined]
            [item.model_dump() for item in asked],
            idempotency_key=idempotency_key,
        )
        return Answer.model_validate(answer)

    verify.__annotations__["question"] = body
    problem = {PROBLEM_TYPE: {"schema": Problem.model_json_schema()}}
    statuses = sorted({status for _, status in STATUS} | {422})
    responses: dict[int | str, dict[str, Any]] = {
        status: {
            "description": " / ".join(kind.__name__ for kind, own in STATUS if own == status),
            "content": problem,
        }
        for status in statuses
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


def _item(found: Found) -> dict[str, Any]:
    return {"match": found.match, "band": found.band}


def _status(error: FactoryError) -> int:
    if isinstance(error, NodeRefusedError) and error.refusal_code == RefusalCode.TASK_RATE:
        return 429
    return next(status for kind, status in STATUS if isinstance(error, kind))


def _problem(status: int, code: str, detail: str) -> "JSONResponse":
    from http import HTTPStatus

    from fastapi.responses import JSONResponse

    problem = Problem(
        type=f"urn:shufang:error:{code}", title=HTTPStatus(status).phrase, status=status, detail=detail, code=code
    )
    return JSONResponse(problem.model_dump(), status_code=status, media_type=PROBLEM_TYPE)
