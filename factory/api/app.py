"""The application: every route under ``/v1``, its OpenAPI document, and limits on what is read."""

from collections.abc import Awaitable, Callable, MutableMapping
from importlib import metadata
from typing import Any

from fastapi import FastAPI

from factory.api import (
    problems,
    routes_alerts,
    routes_audit,
    routes_cases,
    routes_catalogue,
    routes_listing,
    routes_national,
    routes_people,
    routes_stopping,
)
from factory.services.platform import Platform

BODY_BYTES_MAX = 4 * 2**20
"""Largest body of a call, in bytes: a request over 200 departments with a reason per column is below 2 MB."""

ROUTES = (
    routes_people,
    routes_catalogue,
    routes_national,
    routes_alerts,
    routes_listing,
    routes_cases,
    routes_stopping,
    routes_audit,
)
"""Modules with routes, in the order in which they are asked; the last one matches any kind of case."""

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Asgi = Callable[[_Message, _Receive, _Send], Awaitable[None]]


def build_app(platform: Platform) -> FastAPI:
    """Return the application over a platform."""
    app = FastAPI(
        title="数坊 Shufang",
        summary="公共数据授权运营平台 | The platform of public-data authorised operation",
        version=metadata.version("shufang"),
        responses=problems.RESPONSES,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.platform = platform
    problems.install(app)
    for routes in ROUTES:
        app.include_router(routes.router)
    app.add_middleware(_Bounded)
    return app


class _Bounded:
    """Ends calls whose body is too large, and forbids that answers are kept by anybody on the way."""

    def __init__(self, app: _Asgi) -> None:
        self._app = app

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > BODY_BYTES_MAX:
            await _too_large(send)
            return
        left = BODY_BYTES_MAX

        async def bounded() -> _Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                return {"type": "http.disconnect"}
            return message

        async def hardened(message: _Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        await self._app(scope, bounded, hardened)


async def _too_large(send: _Send) -> None:
    headers = [(b"content-type", problems.MEDIA_TYPE.encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    body = problems.too_large(BODY_BYTES_MAX).model_dump_json().encode()
    await send({"type": "http.response.body", "body": body})
