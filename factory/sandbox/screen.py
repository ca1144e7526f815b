"""A held result as a picture with the name of who looks and the time burnt in. Needs the extra ``reports``.

Privacy: a picture, not text: it cannot be copied as text, and every part of it says whose screen it was. A
photograph cannot be prevented by software; it carries the mark (RAW-SCREEN, SZ-10.5-8).
"""

import importlib.util
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

from factory.sandbox.errors import SandboxInputError

LINES_MAX, WIDTH_MAX = 120, 140
"""Most lines, and characters of a line, that one screen shows."""
_CHINA = timezone(timedelta(hours=8), "Asia/Shanghai")


def mark_of_screen(person: str, now: datetime) -> str:
    """Return the watermark: who looks, and when, in China's time."""
    return f"{person}  {now.astimezone(_CHINA):%Y-%m-%d %H:%M:%S}"


def picture(content: bytes, *, person: str, now: datetime) -> bytes:
    """Return a PNG of the first lines with the watermark over them.

    Raises:
        SandboxInputError: no text in UTF-8, or the extra ``reports`` is not installed.
    """
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise SandboxInputError("expected text in UTF-8; other files are not looked at") from error
    fonts = importlib.util.find_spec("manimgx_fonts_cjk")
    if fonts is None or not fonts.submodule_search_locations or importlib.util.find_spec("typst") is None:
        raise SandboxInputError("expected the extra `reports`, which sets the picture")
    import typst

    shown = [line[:WIDTH_MAX] for line in lines[:LINES_MAX]]
    facts = {
        "lines": shown, "mark": mark_of_screen(person, now), "rows": 2 + len(shown) // 5,
        "cut": len(lines) > LINES_MAX or any(len(line) > WIDTH_MAX for line in lines[:LINES_MAX]),
    }  # fmt: skip
    made = typst.compile(
        str(Path(__file__).with_name("screen.typ")),
        format="png",
        ppi=110.0,
        font_paths=[str(Path(next(iter(fonts.submodule_search_locations))))],
        ignore_system_fonts=True,
        sys_inputs={"facts": json.dumps(facts, ensure_ascii=False)},
    )
    if not isinstance(made, bytes):
        raise SandboxInputError("expected one page")
    return made
