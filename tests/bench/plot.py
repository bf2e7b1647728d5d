"""Figures that have a goal, drawn as SVG: for each, where it came to between far off and far ahead.

All share one axis, how many times better than its goal a figure is, so that milliseconds, kibibytes
and ratios can stand side by side. Nothing is measured or judged here.
"""

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from tests.bench.figures import Figure, Spread

_ROW, _TOP, _LEFT, _WIDE, _RIGHT = 22, 64, 430, 420, 130
_DECADES = 2.0
"""The axis goes from a hundred times worse to a hundred times better; what is beyond stands at
the end."""
_GOOD, _BAD, _INK, _LINE = "#2a7f62", "#c0392b", "#222222", "#bbbbbb"
_FONT = 'font-family="system-ui, sans-serif" font-size="12"'


def plot(figures: Sequence[Figure], heading: str) -> str:
    """An SVG document."""
    shown = [figure for figure in figures if figure.goal and (figure.ratio or figure.product)]
    height = _TOP + _ROW * len(shown) + 34
    width = _LEFT + _WIDE + _RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {_FONT}>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(16, 22, "How many times better than its goal each figure is", weight="bold"),
        _text(16, 40, heading, colour="#666666"),
    ]
    bottom = _TOP + _ROW * len(shown)
    for power in range(-int(_DECADES), int(_DECADES) + 1):
        x = _place(10.0**power)
        colour = _INK if power == 0 else _LINE
        parts.append(f'<path d="M{x:.1f} {_TOP - 8}V{bottom}" stroke="{colour}"/>')
        words = "goal" if power == 0 else f"{10.0**power:g} ×"
        parts.append(_text(x, bottom + 18, words, anchor="middle"))
    for number, figure in enumerate(shown):
        parts += _row(figure, _TOP + _ROW * number + _ROW / 2)
    return "\n".join([*parts, "</svg>", ""])


def _row(figure: Figure, y: float) -> list[str]:
    spread = figure.ratio or figure.product
    assert figure.goal is not None
    assert spread is not None
    low, median, high = (
        figure.goal.times_better(v) for v in (spread.low, spread.median, spread.high)
    )
    colour = _GOOD if figure.is_met else _BAD
    bar = f"M{_place(low):.1f} {y}H{_place(high):.1f}"
    return [
        _text(_LEFT - 12, y + 4, figure.name, anchor="end"),
        f'<path d="{bar}" stroke="{colour}" stroke-width="3" stroke-opacity="0.4"/>',
        f'<circle cx="{_place(median):.1f}" cy="{y}" r="4.5" fill="{colour}"/>',
        _text(_LEFT + _WIDE + 12, y + 4, _words(figure, spread), colour=colour),
    ]


def _words(figure: Figure, spread: Spread) -> str:
    assert figure.goal is not None
    unit = " ×" if figure.ratio else f" {figure.unit}".rstrip()
    return f"{spread.median:,.3g}{unit} ({figure.goal.words})"


def _place(times: float) -> float:
    power = _DECADES if times == math.inf else math.log10(times) if times > 0 else -_DECADES
    share = (min(_DECADES, max(-_DECADES, power)) + _DECADES) / (2 * _DECADES)
    return _LEFT + share * _WIDE


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", colour: str = _INK, weight: str = ""
) -> str:
    bold = f' font-weight="{weight}"' if weight else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}"{bold}>{escape(words)}</text>'
