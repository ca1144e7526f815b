"""The work console over HTTP: whoever decides on an export looks at the held result, and takes nothing with them.

The result is a picture that carries the person and the time. Copying, downloading and printing are refused and
logged: by the server, which hands out nothing but that picture to that page, and by the page, which reports what
its person tried.

Source:
    Requirement RAW-SCREEN (SZ-10.5-8).
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict

from factory.errors import FactoryError
from factory.lifecycle.machine import Refusal
from factory.sandbox.sandboxes import RUN, Sandboxes
from factory.sandbox.screen import mark_of_screen, picture
from factory.services.actor import Actor

if TYPE_CHECKING:
    from fastapi import FastAPI

SCREEN = ("RAW-SCREEN", "SZ-10.5-8")
MINUTES = 15
"""How long a screen stays open."""


class ScreenRefusedError(FactoryError):
    """A screen that is not open, or something that a screen does not give.

    Attributes:
        status: of the HTTP answer.
        refusal: code, message and clauses.
    """

    code = "sandbox.screen"

    def __init__(self, status: int, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.status = status
        self.refusal = refusal


class Attempt(BaseModel):
    """What a person tried on a screen."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["copy", "cut", "print", "save", "drag", "menu", "screenshot"]


@dataclass(frozen=True, slots=True)
class Screen:
    """One open screen.

    Attributes:
        actor: who looks.
        run, file: at what.
        content: the held result.
        until: when it closes.
    """

    actor: Actor
    run: str
    file: str
    content: bytes
    until: datetime


@dataclass(frozen=True, slots=True)
class Console:
    """Open screens of one process.

    Attributes:
        sandboxes: whose results are looked at.
        screens: by token.
    """

    sandboxes: Sandboxes
    screens: dict[str, Screen] = field(default_factory=dict)

    def open(self, actor: Actor, run: str, file: str) -> str:
        """Open a screen and return its token; logged.

        Raises:
            TransitionRefusedError: no such held file; recorded.
            CaseUnknownError: no such run.
        """
        content = self.sandboxes.held(actor, run, file)
        desk = self.sandboxes.desk
        desk.note(actor, RUN, run, "look", reason=file)
        token = secrets.token_urlsafe(24)
        self.screens[token] = Screen(actor, run, file, content, desk.clock() + timedelta(minutes=MINUTES))
        return token

    def shown(self, token: str) -> Screen:
        """Return an open screen.

        Raises:
            ScreenRefusedError: there is none, or its time is over.
        """
        found = self.screens.get(token)
        if found is None or found.until <= self.sandboxes.desk.clock():
            raise ScreenRefusedError(404, Refusal("screen.unknown", "expected an open screen; open it again"))
        return found

    def refuse(self, screen: Screen, what: str) -> ScreenRefusedError:
        """Record what a person tried, and return the error to raise."""
        refusal = Refusal("screen.export", f"{what} is refused: results leave by an approved export alone", SCREEN)
        self.sandboxes.desk.refuse(screen.actor, RUN, screen.run, f"screen.{what}", refusal)
        return ScreenRefusedError(403, refusal)


def create_console(console: Console) -> "FastAPI":
    """Return the service over open screens."""
    from fastapi import FastAPI, Header, Request
    from fastapi.responses import HTMLResponse, JSONResponse, Response

    app = FastAPI(title="数坊工作台 · work console", version="1", docs_url=None, redoc_url=None, openapi_url=None)
    Destination = Annotated[str, Header(alias="Sec-Fetch-Dest")]  # noqa: N806  a type

    @app.exception_handler(ScreenRefusedError)
    def refused(_request: Request, error: ScreenRefusedError) -> JSONResponse:
        told = error.refusal
        body = {
            "type": f"urn:shufang:error:{told.code}", "title": told.code, "status": error.status, "code": told.code,
            "detail": told.message, "clauses": list(told.clauses),
        }  # fmt: skip
        return JSONResponse(body, error.status, media_type="application/problem+json", headers=_headers(""))

    @app.get("/screens/{token}")
    def page(token: str) -> Response:
        screen, nonce = console.shown(token), secrets.token_urlsafe(16)
        mark = mark_of_screen(screen.actor.id, console.sandboxes.desk.clock())
        return HTMLResponse(_page(screen, mark, nonce), headers=_headers(nonce))

    @app.get("/screens/{token}/picture")
    def image(token: str, destination: Destination = "") -> Response:
        screen = console.shown(token)
        if destination != "image":  # opened by itself, or fetched by a program
            raise console.refuse(screen, "download")
        made = picture(screen.content, person=screen.actor.id, now=console.sandboxes.desk.clock())
        return Response(made, media_type="image/png", headers=_headers(""))

    @app.post("/screens/{token}/attempts")
    def attempted(token: str, attempt: Attempt) -> Response:
        raise console.refuse(console.shown(token), attempt.kind)

    @app.api_route("/screens/{token}/{rest:path}", methods=["GET", "POST", "PUT"])
    def other(token: str, rest: str) -> Response:  # noqa: ARG001  whatever else is asked for is a download
        raise console.refuse(console.shown(token), "download")

    for function in (page, image, attempted, other):
        function.__annotations__.pop("return", None)
    return app


def _headers(nonce: str) -> Mapping[str, str]:
    script = f"'nonce-{nonce}'" if nonce else "'none'"
    return {
        "Content-Security-Policy": (
            f"default-src 'none'; img-src 'self'; connect-src 'self'; script-src {script}; style-src {script}; "
            "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        ),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def _page(screen: Screen, mark: str, nonce: str) -> str:
    from html import escape

    shown = escape(f"{mark} · {screen.run} · {screen.file}")
    return f"""<!doctype html><html lang="zh-CN"><head><meta charset="utf-8"><title>工作台 · work console</title>
<style nonce="{nonce}">body{{margin:0;font:14px/1.6 sans-serif;user-select:none;-webkit-user-select:none}}
header{{background:#a3262a;color:#fff;padding:6px 16px}}img{{width:100%;pointer-events:none}}
@media print{{body{{display:none}}}}</style></head><body>
<header id="mark">{shown}　结果不得复制、下载、打印 no copy, no download, no print</header>
<img alt="" draggable="false" id="picture">
<script nonce="{nonce}">
const here = location.pathname.replace(/\\/$/, "");
document.getElementById("picture").src = here + "/picture";
const tell = (kind) => fetch(here + "/attempts", {{method: "POST", keepalive: true,
  headers: {{"Content-Type": "application/json"}}, body: JSON.stringify({{kind}})}});
const stop = (event, kind) => {{ event.preventDefault(); event.stopImmediatePropagation(); tell(kind); }};
for (const [name, kind] of [["copy", "copy"], ["cut", "cut"], ["dragstart", "drag"], ["contextmenu", "menu"]])
  addEventListener(name, (event) => stop(event, kind), true);
addEventListener("beforeprint", () => tell("print"));
addEventListener("keyup", (event) => {{ if (event.key === "PrintScreen") tell("screenshot"); }}, true);
addEventListener("keydown", (event) => {{
  const kind = {{c: "copy", x: "cut", s: "save", p: "print"}}[event.key.toLowerCase()];
  if ((event.ctrlKey || event.metaKey) && kind) stop(event, kind);
}}, true);
</script></body></html>
"""
