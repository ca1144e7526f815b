"""The one place where an error becomes an HTTP answer.

Source:
    RFC 9457 (Problem Details for HTTP APIs).
"""

import logging
import traceback
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from factory.accounts.errors import LockedError, UnauthenticatedError
from factory.agency.errors import NothingPendingError, RequestRefusedError, SignatureMissingError
from factory.errors import FactoryError
from factory.registry.errors import (
    CaseChangedError,
    CaseExistsError,
    CaseUnknownError,
    RegistryUnusableError,
    TransitionRefusedError,
)
from factory.trust import TrustError
from nodes.contract.errors import ContractError

MEDIA_TYPE = "application/problem+json"

_log = logging.getLogger(__name__)

_STATUS: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (UnauthenticatedError, HTTPStatus.UNAUTHORIZED),
    (LockedError, HTTPStatus.TOO_MANY_REQUESTS),
    (CaseUnknownError, HTTPStatus.NOT_FOUND),
    (CaseExistsError, HTTPStatus.CONFLICT),
    (CaseChangedError, HTTPStatus.CONFLICT),
    (NothingPendingError, HTTPStatus.CONFLICT),
    (SignatureMissingError, HTTPStatus.CONFLICT),
    (RegistryUnusableError, HTTPStatus.SERVICE_UNAVAILABLE),
    (TrustError, HTTPStatus.SERVICE_UNAVAILABLE),
)


class Problem(BaseModel):
    """Why a call did not do what was asked.

    Attributes:
        type: ``urn:shufang:error:`` and the code.
        title: what the status means.
        status: of the answer.
        detail: what was expected, what came, what to do next.
        code: stable reason; see the reference page of errors.
        clauses: requirements and clauses behind a refusal.
        retryable: whether the same call may succeed later.
        fields: place and reason per field of a body that does not fit.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    clauses: list[str] = []
    retryable: bool = False
    fields: dict[str, str] = {}


RESPONSES: dict[int | str, dict[str, Any]] = {
    int(status): {"description": status.phrase, "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
    for status in (
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.CONFLICT,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
    )
}
"""What every operation may answer."""


def problem_of(error: FactoryError | ContractError) -> Problem:
    """Return what a caller is told of one of our errors."""
    code, detail = error.code, str(error)
    clauses: tuple[str, ...] = ()
    if isinstance(error, TransitionRefusedError):
        code, clauses, detail = error.refusal.code, error.refusal.clauses, error.refusal.message
    elif isinstance(error, RequestRefusedError):
        code, clauses = error.reason, error.clauses
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), None) or _by_code(code)
    return _problem(status, code, detail, clauses=clauses, retryable=error.retryable)


def too_large(size_max: int) -> Problem:
    """Return what a caller is told whose body is too large."""
    return _problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "api.too_large", f"expected a body of at most {size_max} bytes"
    )


def install(app: FastAPI) -> None:
    """Have ``app`` answer every failure as a problem."""
    for kind in (FactoryError, ContractError):
        app.add_exception_handler(kind, _ours)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(ValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _fault)


def _ours(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, FactoryError | ContractError):
        raise error
    return _answer(problem_of(error))


def _malformed(_request: Request, error: Exception) -> JSONResponse:
    # Place and reason alone: what was given may be a secret.
    found = error.errors() if isinstance(error, RequestValidationError | ValidationError) else []
    fields = {".".join(map(str, item["loc"])) or "body": str(item["msg"]) for item in found[:20]}
    problem = _problem(HTTPStatus.UNPROCESSABLE_ENTITY, "api.malformed", "expected what the API document describes")
    return _answer(problem.model_copy(update={"fields": fields}))


def _http(_request: Request, error: Exception) -> JSONResponse:
    status = HTTPStatus(error.status_code if isinstance(error, HTTPException) else HTTPStatus.BAD_REQUEST)
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    detail = "expected a path, method and body of the API document; see /openapi.json"
    return _answer(_problem(status, f"api.{status.name.lower()}", detail), headers)


def _fault(request: Request, error: Exception) -> JSONResponse:
    places = " < ".join(f"{f.name}:{f.lineno}" for f in reversed(traceback.extract_tb(error.__traceback__)))
    _log.error("%s %s failed: %s at %s", request.method, request.url.path, type(error).__name__, places)
    return _answer(
        _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "api.fault", "the platform failed on this call; tell its operator")
    )


def _by_code(code: str) -> HTTPStatus:
    if code.endswith(".role") or code.startswith(("roles.", "duties.")):
        return HTTPStatus.FORBIDDEN
    if code.endswith(".state"):
        return HTTPStatus.CONFLICT
    return HTTPStatus.UNPROCESSABLE_ENTITY


def _problem(
    status: HTTPStatus, code: str, detail: str, *, clauses: tuple[str, ...] = (), retryable: bool = False
) -> Problem:
    return Problem(
        type=f"urn:shufang:error:{code}",
        title=status.phrase,
        status=int(status),
        detail=detail,
        code=code,
        clauses=list(clauses),
        retryable=retryable,
    )


def _answer(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    sent = dict(headers or {})
    if problem.status == HTTPStatus.UNAUTHORIZED:
        sent["WWW-Authenticate"] = "Bearer"
    return JSONResponse(problem.model_dump(), status_code=problem.status, media_type=MEDIA_TYPE, headers=sent)
