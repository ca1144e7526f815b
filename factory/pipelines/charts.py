"""Charts of a table as SVG text: bars, a line over time, intervals. No script, nothing loaded, byte-stable.

What is not published is never drawn: it has a dashed mark without a length.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from itertools import groupby
from typing import Literal

Kind = Literal["bars", "line", "intervals", "none"]

WIDTH = 748
INK, SOFT, RULE, BRAND, MUTE, PALE = "#16202b", "#5c6b7a", "#dfe5ea", "#0f5c8c", "#b9c4cd", "#eef4f8"
_LABEL, _BAR, _ROW = 150, 420, 26
_LINE_HEIGHT = 250


@dataclass(frozen=True, slots=True)
class Point:
    """One entry of a chart.

    Attributes:
        label: its name.
        value: published number, None where nothing is published.
        text: the number as people read it, or the mark of a suppression.
        low, high: ends of an interval, where there is one.
    """

    label: str
    value: Decimal | None
    text: str
    low: Decimal | None = None
    high: Decimal | None = None


def draw(kind: Kind, points: Sequence[Point], title: str) -> str:
    """Return the chart, empty if there is nothing to draw."""
    if kind == "none" or not any(point.value is not None for point in points):
        return ""
    return {"bars": _bars, "line": _line, "intervals": _intervals}[kind](points, title)


def _open(height: int, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" font-size="13"><title>{escape(title)}</title>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'


def _short(label: str) -> str:
    """A label that fits beside a bar: a Chinese character takes the room of two letters."""
    room, kept = 20, ""
    for character in label:
        room -= 2 if ord(character) > 0x2E7F else 1
        if room < 0:
            return f"{kept}…"
        kept += character
    return kept


def _bars(points: Sequence[Point], title: str) -> str:
    largest = max((abs(point.value) for point in points if point.value is not None), default=Decimal(0))
    out = [_open(len(points) * _ROW + 4, title)]
    for number, point in enumerate(points):
        y = number * _ROW
        out.append(_text(_LABEL, y + 18, _short(point.label), anchor="end"))
        if point.value is None:
            out.append(
                f'<rect x="{_LABEL + 12}" y="{y + 6}" width="14" height="14" fill="none" stroke="{MUTE}" '
                'stroke-dasharray="2 2"/>'
            )
            out.append(_text(_LABEL + 36, y + 18, f"未公布 not published {point.text}", fill=SOFT))
            continue
        width = int(abs(point.value) / largest * _BAR) if largest else 0
        out.append(f'<rect x="{_LABEL + 12}" y="{y + 4}" width="{width}" height="18" rx="1.5" fill="{BRAND}"/>')
        out.append(_text(_LABEL + 20 + width, y + 18, point.text, fill=SOFT))
    return "".join([*out, "</svg>"])


def _line(points: Sequence[Point], title: str) -> str:
    values = [point.value for point in points if point.value is not None]
    top, bottom = max(Decimal(0), *values), min(Decimal(0), *values)
    span = (top - bottom) or Decimal(1)
    left, right, up, down = 64, WIDTH - 40, 14, _LINE_HEIGHT - 34
    step = (right - left) / max(len(points) - 1, 1)

    def at(number: int, value: Decimal) -> tuple[float, float]:
        return left + number * step, float(down - (value - bottom) / span * (down - up))

    out = [_open(_LINE_HEIGHT, title)]
    for part in range(5):
        value = bottom + span * part / 4
        y = at(0, value)[1]
        out.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{RULE}"/>')
        out.append(_text(left - 8, y + 4, _tick(value, span), anchor="end", fill=SOFT))
    every = -(-len(points) // 12)
    for number, point in enumerate(points):
        x = left + number * step
        if number % every == 0:
            out.append(_text(x, _LINE_HEIGHT - 12, point.label, anchor="middle", fill=SOFT))
        if point.value is None:
            out.append(
                f'<rect x="{x - 5:.1f}" y="{down - 10}" width="10" height="10" fill="none" stroke="{MUTE}" '
                'stroke-dasharray="2 2"/>'
            )
    places = [None if point.value is None else at(number, point.value) for number, point in enumerate(points)]
    for shown, run in groupby(places, key=lambda place: place is not None):
        dots = " ".join("{:.1f},{:.1f}".format(*place) for place in run if place is not None)
        if shown and " " in dots:
            out.append(f'<polyline points="{dots}" fill="none" stroke="{BRAND}" stroke-width="2.2"/>')
    out.extend(
        f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="3.2" fill="#fff" stroke="{BRAND}" stroke-width="2"/>'
        for place in places
        if place is not None
    )
    return "".join([*out, "</svg>"])


def _tick(value: Decimal, span: Decimal) -> str:
    digits = max(0, 1 - math.floor(math.log10(float(span))))
    return f"{value:,.{digits}f}"


def _intervals(points: Sequence[Point], title: str) -> str:
    """Intervals on a logarithmic axis with a line at 1, as odds ratios are shown."""
    ends = [float(end) for point in points for end in (point.low, point.high) if end is not None and end > 0]
    low, high = math.log(min(*ends, 0.8)), math.log(max(*ends, 1.25))
    left, right, height = _LABEL + 12, WIDTH - 170, len(points) * _ROW + 34

    def at(value: float) -> float:
        return left + (math.log(value) - low) / (high - low) * (right - left)

    out = [_open(height, title)]
    one = at(1.0)
    out.append(
        f'<line x1="{one:.1f}" x2="{one:.1f}" y1="2" y2="{height - 24}" stroke="{SOFT}" stroke-dasharray="3 3"/>'
    )
    ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if low <= math.log(tick) <= high]
    out.extend(_text(at(tick), height - 8, f"{tick:g}", anchor="middle", fill=SOFT) for tick in ticks)
    for number, point in enumerate(points):
        y = number * _ROW + 14
        out.append(_text(_LABEL, y + 4, _short(point.label), anchor="end"))
        if point.value is None or point.low is None or point.high is None:
            continue
        ends_x = at(float(point.low)), at(float(point.high))
        out.append(
            f'<line x1="{ends_x[0]:.1f}" x2="{ends_x[1]:.1f}" y1="{y}" y2="{y}" stroke="{BRAND}" stroke-width="2.4"/>'
        )
        out.append(f'<rect x="{at(float(point.value)) - 4.5:.1f}" y="{y - 4.5}" width="9" height="9" fill="{BRAND}"/>')
        out.append(_text(right + 14, y + 4, point.text, fill=SOFT))
    return "".join([*out, "</svg>"])
