"""The product gateway over HTTP: files of released products, use conditions, feedback.

Privacy: products alone are delivered, each client's copy marked; no resource can be named. Problem
Details (RFC 9457) tell the code and the clauses, never a value.
"""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict

from factory.serving.errors import AlteredError, CallRefusedError, ServingError, UnauthenticatedError
from factory.serving.shop import Shop
from factory.trust import TrustError

if TYPE_CHECKING:
    from fastapi import FastAPI

PROBLEM_TYPE = "application/problem+json"


class Acceptance(BaseModel):
    """Which use conditions are accepted."""

    model_config = ConfigDict(extra="forbid")
    version: str


class Feedback(BaseModel):
    """Words on a product after its use."""

    model_config = ConfigDict(extra="forbid")
    quality: str
    use: str
    effect: str


def create_gateway(shop: Shop) -> "FastAPI":
    """Return the service over a counter."""
    from fastapi import FastAPI, Header, Request
    from fastapi.responses import JSONResponse, Response

    app = FastAPI(title="数坊产品网关 · Shufang gateway", version="1", docs_url=None, redoc_url=None)
    Key = Annotated[str, Header(alias="X-API-Key")]  # noqa: N806  a type
    Scenario = Annotated[str, Header(alias="X-Scenario")]  # noqa: N806  a type

    def problem(status: int, code: str, detail: str, clauses: tuple[str, ...] = ()) -> JSONResponse:
        body: dict[str, Any] = {
            "type": f"urn:shufang:error:{code}", "title": code, "status": status, "detail": detail, "code": code,
            "clauses": list(clauses),
        }  # fmt: skip
        return JSONResponse(body, status_code=status, media_type=PROBLEM_TYPE)

    @app.exception_handler(ServingError)
    def refused(_request: Request, error: ServingError) -> JSONResponse:
        if isinstance(error, UnauthenticatedError):
            return problem(401, error.code, str(error))
        if isinstance(error, CallRefusedError):
            status = 429 if error.refusal.code in {"call.rate", "call.quota"} else 403
            return problem(status, error.refusal.code, error.refusal.message, error.refusal.clauses)
        return problem(500 if isinstance(error, AlteredError) else 422, error.code, str(error))

    @app.exception_handler(TrustError)
    def stale(_request: Request, error: TrustError) -> JSONResponse:
        return problem(
            503, error.code, "the signed status is missing or has expired; nothing is delivered until it is newer"
        )

    summary = "List the products that may be asked for now; public"
    app.add_api_route("/v1/products", lambda: {"items": shop.listed()}, summary=summary)

    @app.get("/v1/products/{product}/files/{name:path}")
    def deliver(product: str, name: str, key: Key = "", scenario: Scenario = "") -> Response:
        """Deliver the client's copy of one file of a product."""
        return Response(shop.call(key, product, name, scenario=scenario), media_type="application/octet-stream")

    @app.post("/v1/terms", status_code=204)
    def accept(acceptance: Acceptance, key: Key = "") -> Response:
        """Accept the use conditions of the product of this key."""
        shop.accept_terms(key, acceptance.version)
        return Response(status_code=204)

    @app.post("/v1/feedback", status_code=201)
    def feedback(words: Feedback, key: Key = "") -> dict[str, str]:
        """Tell quality, use and effect of the product of this key."""
        return {"id": shop.feedback(key, words.model_dump()).id}

    for function in (deliver, accept, feedback):
        function.__annotations__.pop("return", None)
    return app


__all__ = ["PROBLEM_TYPE", "create_gateway"]
