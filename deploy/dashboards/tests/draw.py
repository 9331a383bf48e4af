"""Draws a dashboard's panels as Grafana would, from what a Prometheus answers: to be looked at, where there is no Grafana.

Lines, legends, units and thresholds are those of the JSON. Used by `live.py --pictures`; needs matplotlib.
"""

import json
import math
import re
import urllib.parse

from stage import get

# Grafana's palette, roughly.
COLOURS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#37872d", "#e0b400", "#1f60c4", "#fa6400", "#c4162a", "#8f3bb8"]
SECONDS = [(1e-6, "µs", 1e6), (1e-3, "µs", 1e6), (1, "ms", 1e3), (60, "s", 1), (math.inf, "min", 1 / 60)]
SUFFIXES = {"mps": " msg/s", "cps": "/s", "reqps": " req/s", "none": "", "short": ""}
# Seconds between two points; rates are over this much at least, as $__rate_interval is at Grafana's scrape interval of 15 s.
STEP, RATE = 1, "1m"


def filled(expression, minutes):
    return (
        expression.replace("$queue", ".*")
        .replace("$__rate_interval", RATE)
        .replace("$__range", f"{minutes}m")
    )


def shown(value, unit):
    """A value as Grafana writes it."""
    if value is None or math.isnan(value):
        return "–"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        _, name, factor = next(row for row in SECONDS if abs(value) < row[0]) if value else (0, "s", 1)
        return f"{value * factor:.3g} {name}"
    return f"{value:.3g}{SUFFIXES.get(unit, ' ' + unit)}"


def legend(template, labels):
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda name: labels.get(name[1], ""), template or json.dumps(labels))


def ranged(asked, expression, begin, end):
    quoted = urllib.parse.urlencode({"query": expression, "start": begin, "end": end, "step": STEP})
    return json.loads(get(f"{asked}/api/v1/query_range?{quoted}", timeout=30))["data"]["result"]


def lines(asked, panel, begin, end):
    """(name, times, values) of each series of the panel."""
    for target in panel["targets"]:
        minutes = math.ceil((end - begin) / 60)
        for series in ranged(asked, filled(target["expr"], minutes), begin, end):
            points = {round(float(at) - begin): float(value) for at, value in series["values"]}
            # What is missing is a gap.
            times = list(range(0, math.ceil(end - begin) + 1, STEP))
            yield legend(target.get("legendFormat"), series["metric"]), times, [points.get(time, math.nan) for time in times]


def draw_lines(axis, panel, found):
    defaults = panel["fieldConfig"]["defaults"]
    unit = defaults["unit"]
    dashed = [re.compile(one["matcher"]["options"].strip("/")) for one in panel["fieldConfig"]["overrides"] if one["matcher"]["id"] == "byRegexp"]
    for index, (name, times, values) in enumerate(found):
        is_dashed = any(pattern.search(name) for pattern in dashed)
        last = next((value for value in reversed(values) if not math.isnan(value)), None)
        axis.plot(
            times, values, label=f"{name}  {shown(last, unit)}", color=COLOURS[index % len(COLOURS)],
            linestyle=(0, (3, 3)) if is_dashed else "-", linewidth=1,
        )  # fmt: skip
    for name, bound in (("bottom", defaults.get("min")), ("top", defaults.get("max"))):
        if bound is not None:
            axis.set_ylim(**{name: bound})
    axis.yaxis.set_major_formatter(lambda value, _: shown(value, unit))
    axis.tick_params(labelsize=6)
    axis.grid(alpha=0.25)
    if found:
        axis.legend(fontsize=5.5, loc="upper left", bbox_to_anchor=(0, -0.1), ncols=2, frameon=False, borderaxespad=0)


def draw_stat(axis, panel, found):
    """The latest value of each series; one that has ended is not shown."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    mode = panel.get("options", {}).get("textMode", "auto")
    texts = {
        value: option.get("text", value)
        for mapping in panel["fieldConfig"]["defaults"].get("mappings", [])
        for value, option in mapping.get("options", {}).items()
    }
    parts = []
    for name, _, values in found:
        # The last scrape may be some seconds old.
        last = next((value for value in reversed(values[-5:]) if not math.isnan(value)), None)
        if last is not None:
            value = texts.get(f"{last:g}", shown(last, unit))
            parts.append(name if mode == "name" else value if mode == "value" else f"{name}\n{value}")
    axis.axis("off")
    axis.text(0.5, 0.45, "   ".join(parts), ha="center", va="center", fontsize=9, transform=axis.transAxes)


def draw(asked, file, begin, end, picture):
    """One picture of the dashboard in `file`; the panels that show nothing."""
    from matplotlib.figure import Figure

    dashboard = json.loads(file.read_text(encoding="utf-8"))
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = Figure(figsize=(16, height * 0.36), dpi=95)
    empty = []
    for panel in panels:
        place = panel["gridPos"]
        room = 1.2 if panel["type"] == "stat" else 2.6  # for title and legend
        axis = figure.add_axes((
            (place["x"] + 0.9) / 24, 1 - (place["y"] + place["h"] - (room - 0.8)) / height,
            (place["w"] - 1.2) / 24, (place["h"] - room) / height,
        ))  # fmt: skip
        axis.set_title(panel["title"], fontsize=8, loc="left")
        # Until a little before its end: by then everything was scraped.
        found = list(lines(asked, panel, begin, end - 2))
        if not any(not math.isnan(value) for _, _, values in found for value in values):
            empty.append(panel["title"])
        (draw_stat if panel["type"] == "stat" else draw_lines)(axis, panel, found)
    figure.savefig(picture)
    return empty
