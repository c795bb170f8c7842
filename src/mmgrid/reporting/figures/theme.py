"""The theme of the figures, light and dark, shared by the page and the figure files."""

from typing import Any

FACET_SPACING = 36
INKS = {
    # inkFrom: the share of the colour scale beyond which the number on a tile takes the other ink
    "light": {"inkFrom": 0.85, "inkOnEnds": "#ffffff", "inkOnMiddle": "#1b1f24"},
    "dark": {"inkFrom": 0.7, "inkOnEnds": "#0d1014", "inkOnMiddle": "#e7eaee"},
}
"""Parameters of figures with text on coloured tiles."""

_GROUND = {
    "light": {"ink": "#1b1f24", "muted": "#5b6570", "line": "#e2e6ea"},
    "dark": {"ink": "#e7eaee", "muted": "#9aa4af", "line": "#2b3138"},
}
_RANGES = {
    # category: based on the palette of Okabe and Ito, darker or lighter to contrast with the background.
    # diverging: orange below and blue above, distinct under the common colour vision deficiencies.
    # ordinal: tints behind lines.
    "light": {
        "category": ["#1f6fb4", "#c9600f", "#0b8a68", "#b4488b", "#8a7a00", "#6b7682", "#7b48b8", "#b93a2b"],
        "diverging": ["#b4530a", "#df8a43", "#f5cfa8", "#f4f5f6", "#b7d3ec", "#5e9bd1", "#175a9c"],
        "ordinal": ["#f1f3f5", "#dbe8f4", "#f7e6d4", "#d9ece5"],
    },
    "dark": {
        "category": ["#6cb4ee", "#f0a35e", "#56c7a5", "#e08fc0", "#e8d86b", "#a9b4c0", "#c48af0", "#ef7d6c"],
        "diverging": ["#f0934a", "#a8602b", "#5a3f2c", "#262b31", "#2b4560", "#3a78b5", "#6db6ff"],
        "ordinal": ["#1d2126", "#1b2c3d", "#35291b", "#18322b"],
    },
}


def theme(scheme: str) -> dict[str, Any]:
    """The Vega-Lite configuration of `light` or `dark`; the page sets its own font."""
    ink, muted, line = (_GROUND[scheme][name] for name in ("ink", "muted", "line"))
    small = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    return {
        "background": None,
        "font": "sans-serif",
        "padding": {"left": 2, "right": 2, "top": 4, "bottom": 4},
        "view": {"stroke": None},
        "axis": {
            "labelColor": muted,
            "titleColor": muted,
            "domainColor": line,
            "tickColor": line,
            "gridColor": line,
            "labelPadding": 6,
            "titlePadding": 10,
            **small,
        },
        "axisX": {"ticks": False, "domain": False, "labelFlush": False},
        "axisY": {"ticks": False, "domain": False},
        "axisBand": {"grid": False},
        "axisYBand": {"labelColor": ink, "labelFontSize": 13, "labelLimit": 200},
        "axisXBand": {"labelColor": ink, "labelFontSize": 13, "labelLimit": 120},
        "header": {
            "labelColor": ink,
            "labelFontSize": 14,
            "labelFontWeight": 600,
            "labelAnchor": "start",
            "labelPadding": 8,
        },
        "legend": {"labelColor": muted, "titleColor": muted, "labelLimit": 240, **small},
        "text": {"fill": ink},
        "rule": {"stroke": muted},
        "facet": {"spacing": FACET_SPACING},
        "range": _RANGES[scheme],
    }
