"""Charts as SVG text: a radar of the six dimensions, a trend line, bars. No script, no dependency, byte-stable."""

from collections.abc import Sequence
from html import escape
from math import cos, pi, sin

INK, MUTED, LINE, PANEL = "#17222e", "#66727f", "#d8dee6", "#f5f7fa"
BLUE, GREEN, AMBER, RED = "#1d5fc4", "#1f7a4d", "#b7791f", "#b3261e"


def radar(labels: Sequence[str], now: Sequence[int | None], before: Sequence[int | None], title: str) -> str:
    """Draw scores in hundredths on as many axes as there are labels.

    The axis starts at 60, or at 0 when a score is lower, and says so; an axis that was not
    assessed is dashed and marked with a dash, never drawn as 0 or 100.
    """
    low = 60 if all(value is None or value >= 6_000 for value in (*now, *before)) else 0
    width, height, radius = 400, 292, 100.0
    cx, cy, count = width / 2, height / 2 + 2, len(labels)

    def at(index: int, score: float) -> tuple[float, float]:
        length = radius * max(0.0, score - low) / (100 - low)
        return cx + length * sin(2 * pi * index / count), cy - length * cos(2 * pi * index / count)

    def points(scores: Sequence[tuple[int, float]]) -> str:
        return " ".join("{:.1f},{:.1f}".format(*at(index, score)) for index, score in scores)

    ring = list(range(count))
    out = [f"{_open('radar', width, height)}<title>{escape(title)}</title>"]
    for level in (100, *(low + (100 - low) * step / 4 for step in (3, 2, 1))):
        fill = PANEL if level == 100 else "none"
        shape = points([(index, level) for index in ring])
        out.append(f'<polygon points="{shape}" fill="{fill}" stroke="{LINE}"/>')
        out.append(
            f'<text x="{cx + 3:.1f}" y="{at(0, level)[1] + 9:.1f}" font-size="8" fill="{MUTED}">{level:.0f}</text>'
        )
    for index in ring:
        x, y = at(index, 100)
        dash = ' stroke-dasharray="2 3"' if now[index] is None else ""
        out.append(f'<line x1="{cx}" y1="{cy}" x2="{x:.1f}" y2="{y:.1f}" stroke="{LINE}"{dash}/>')
    old = [(index, value / 100) for index, value in enumerate(before) if value is not None]
    if len(old) > 2:
        out.append(
            f'<polygon points="{points(old)}" fill="none" stroke="{MUTED}" stroke-width="1.2" stroke-dasharray="4 3"/>'
        )
    new = [(index, value / 100) for index, value in enumerate(now) if value is not None]
    if len(new) > 2:
        out.append(
            f'<polygon points="{points(new)}" fill="{BLUE}" fill-opacity=".14" stroke="{BLUE}" '
            'stroke-width="2" stroke-linejoin="round"/>'
        )
    for index, score in new:
        x, y = at(index, score)
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#fff" stroke="{BLUE}" stroke-width="1.8"/>')
    for index, label in enumerate(labels):
        x = cx + (radius + 22) * sin(2 * pi * index / count)
        y = cy - (radius + 20) * cos(2 * pi * index / count)
        anchor = "middle" if abs(x - cx) < 8 else ("start" if x > cx else "end")
        x += 0 if anchor == "middle" else (-8 if anchor == "start" else 8)
        value = now[index]
        text = "—" if value is None else hundredths(value)
        out.append(
            f'<text x="{x:.1f}" y="{y - 1:.1f}" text-anchor="{anchor}" font-size="12" fill="{INK}">'
            f"{escape(label)}</text>"
            f'<text x="{x:.1f}" y="{y + 13:.1f}" text-anchor="{anchor}" font-size="11" font-weight="600" '
            f'fill="{MUTED if value is None else BLUE}">{text}</text>'
        )
    out.append("</svg>")
    return "".join(out)


def trend(scores: Sequence[int], target: int, title: str) -> str:
    """Draw totals in hundredths, oldest first, with the line they must reach."""
    width, height = 300, 78
    low = min(*scores, target) - 150 if scores else target - 150
    high = max(*scores, target) + 150 if scores else target + 150

    def x(index: int) -> float:
        return 12 + index * (width - 76) / max(1, len(scores) - 1)

    def y(score: int) -> float:
        return height - 12 - (score - low) / (high - low) * (height - 24)

    line = " ".join(f"{x(index):.1f},{y(score):.1f}" for index, score in enumerate(scores))
    out = [
        f"{_open('trend', width, height)}<title>{escape(title)}</title>",
        f'<line x1="6" x2="{width - 58}" y1="{y(target):.1f}" y2="{y(target):.1f}" ',
        f'stroke="{AMBER}" stroke-dasharray="4 3"/>',
        f'<text x="{width - 54}" y="{y(target) + 3.5:.1f}" font-size="10" fill="{AMBER}">≥ {hundredths(target)}</text>',
    ]
    if len(scores) > 1:
        out.append(f'<polyline points="{line}" fill="none" stroke="{BLUE}" stroke-width="2" stroke-linejoin="round"/>')
    for index, score in enumerate(scores):
        last = index == len(scores) - 1
        out.append(
            f'<circle cx="{x(index):.1f}" cy="{y(score):.1f}" r="{3.4 if last else 2}" '
            f'fill="{BLUE if last else "#fff"}" stroke="{BLUE}" stroke-width="1.4"/>'
        )
    out.append("</svg>")
    return "".join(out)


def bar(score: int, threshold: int, title: str) -> str:
    """Draw one score in hundredths with a tick at its threshold."""
    colour = GREEN if score >= threshold else RED
    return (
        f"{_open('bar', 120, 12)}<title>{escape(title)}</title>"
        f'<rect y="2" width="120" height="8" rx="4" fill="#e9edf2"/>'
        f'<rect y="2" width="{max(4, score * 120 // 10_000)}" height="8" rx="4" fill="{colour}"/>'
        f'<rect x="{threshold * 120 // 10_000}" width="1.4" height="12" fill="{INK}"/></svg>'
    )


def _open(kind: str, width: int, height: int) -> str:
    return f'<svg class="{kind}" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'


def hundredths(value: int) -> str:
    """Return hundredths as text with two digits: 9_650 is ``96.50``."""
    sign = "-" if value < 0 else ""
    return f"{sign}{abs(value) // 100}.{abs(value) % 100:02d}"
