#!/usr/bin/env python3
"""Holds rules and dashboards against what they stand on: docs/metrics.md, docs/runbook.md, and their own tests.

- Every metric in an expression is in docs/metrics.md or recorded by a rule; every label in it is one of that metric's, and every
  value of a label with a closed set of values is in the set.
- Every alert says how urgent it is and what to do: severity, summary, description, and a heading of the runbook that is there.
- Every alert is tested by rules.test.yml in a case in which it fires.
- Every panel has a title, a unit and a description, and no two lie over one another.

Needs PyYAML. Exit: 0 all is so, 1 not.
"""

import json
import re
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
DASHBOARDS = HERE.parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "docs/tests"))

from links import anchors  # noqa: E402

SELECTOR = re.compile(r"\b((?:worker|canary|queue|queue_release|up)[a-z0-9_:]*)\s*(\{[^}]*\})?")
MATCHER = re.compile(r"([a-zA-Z_]+)\s*(=~|!~|=|!=)\s*\"([^\"]*)\"")
GROUPING = re.compile(r"\b(?:by|on|without|group_left|group_right|ignoring)\s*\(([^)]*)\)")
# What Prometheus itself puts on every series, and histograms on their buckets.
ALWAYS = {"instance", "job", "le"}
SEVERITIES = {"page", "ticket", "info"}


def catalogue():
    """The metrics of docs/metrics.md with their labels, and the closed sets of the labels' values."""
    metrics, values = {}, {}
    base = {"worker": {"release", "track", "queue"}, "canary": set()}
    for line in (ROOT / "docs/metrics.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        metric = re.fullmatch(r"`((?:worker|canary)_[a-z_]+)`", cells[0])
        if metric and len(cells) == 4 and cells[1] in ("counter", "gauge", "histogram"):
            names = [metric[1]]
            if cells[1] == "histogram":
                names = [metric[1] + ending for ending in ("_bucket", "_sum", "_count")]
            for name in names:
                metrics[name] = set(re.findall(r"`([a-z_]+)`", cells[2])) | base[name.split("_")[0]] | ALWAYS
        label = re.fullmatch(r"`([a-z_]+)`", cells[0])
        if label and len(cells) == 3:
            for name in re.findall(r"`((?:worker|canary)_[a-z_]+)`", cells[1]):
                values[name, label[1]] = set(re.findall(r"`([a-z_]+)`", cells[2]))
    return metrics, values


class Findings(list):
    def need(self, condition, text):
        if not condition:
            self.append(text)


def check_expression(where, expression, metrics, values, findings):
    # Label names in `by (…)` are no metrics.
    for name, braces in SELECTOR.findall(GROUPING.sub("", expression)):
        if name not in metrics:
            findings.append(f"{where}: {name} is neither in docs/metrics.md nor recorded")
            continue
        for label, operator, value in MATCHER.findall(braces or ""):
            findings.need(label in metrics[name], f"{where}: {name} has no label {label}")
            known = values.get((name, label))
            if known and "$" not in value:
                options = value.split("|") if "~" in operator else [value]
                for option in options:
                    findings.need(option in known, f"{where}: {name}: {label} is never {option}")


def rules(findings):
    recorded, alerts, expressions = [], [], []
    for file in sorted((DASHBOARDS / "prometheus").glob("*.rules.yml")):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                name = rule.get("record") or rule["alert"]
                expressions.append((f"{file.name}: {name}", rule["expr"]))
                (recorded if "record" in rule else alerts).append(rule)
    headings = anchors((ROOT / "docs/runbook.md").read_text(encoding="utf-8"))
    tests = yaml.safe_load((DASHBOARDS / "prometheus/rules.test.yml").read_text(encoding="utf-8"))["tests"]
    fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", []) if case["exp_alerts"]}
    runbook = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    for alert in alerts:
        name, notes = alert["alert"], alert.get("annotations", {})
        findings.need(alert.get("labels", {}).get("severity") in SEVERITIES, f"{name}: severity is none of {SEVERITIES}")
        findings.need(notes.get("summary") and notes.get("description"), f"{name}: summary or description is missing")
        file, _, heading = notes.get("runbook_url", "").partition("#")
        findings.need(file == "docs/runbook.md" and heading in headings, f"{name}: no such heading: {notes.get('runbook_url')}")
        findings.need(name in fired, f"{name}: rules.test.yml has no case in which it fires")
        row = rf"^\| `{name}` \| {alert.get('labels', {}).get('severity')} \| \[[^\]]+\]\(#{re.escape(heading)}\) \|$"
        findings.need(re.search(row, runbook, re.MULTILINE), f"{name}: no row of the runbook's table has its severity and heading")
    known = {alert["alert"] for alert in alerts}
    for line in re.findall(r"^Alerts?: (.*)$", runbook, re.MULTILINE):
        for name in re.findall(r"`([A-Za-z]+)`", line.split(". ")[0]):
            findings.need(name in known, f"docs/runbook.md: there is no alert {name}")
    return recorded, expressions


def panels(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def dashboards(findings):
    expressions, identities = [], set()
    for file in sorted((DASHBOARDS / "grafana").glob("*.json")):
        dashboard = json.loads(file.read_text(encoding="utf-8"))
        findings.need(dashboard["uid"] not in identities, f"{file.name}: uid {dashboard['uid']} is taken")
        identities.add(dashboard["uid"])
        findings.need(dashboard.get("description"), f"{file.name}: the dashboard has no description")
        taken = {}
        for panel in panels(dashboard):
            where = f"{file.name}: {panel.get('title') or panel.get('id')}"
            place = panel["gridPos"]
            for cell in ((x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])):
                findings.need(cell not in taken, f"{where}: lies over {taken.get(cell)}")
                taken[cell] = panel.get("title")
            findings.need(place["x"] + place["w"] <= 24, f"{where}: reaches over the edge")
            findings.need(panel.get("title"), f"{where}: no title")
            if panel["type"] == "row":
                continue
            findings.need(panel.get("description"), f"{where}: no description")
            findings.need(panel["fieldConfig"]["defaults"].get("unit"), f"{where}: no unit")
            findings.need(panel.get("targets"), f"{where}: no query")
            for target in panel.get("targets", []):
                expressions.append((where, target["expr"]))
        for annotation in dashboard.get("annotations", {}).get("list", []):
            if annotation.get("expr"):
                expressions.append((f"{file.name}: annotation {annotation['name']}", annotation["expr"]))
    return expressions


def main():
    findings = Findings()
    metrics, values = catalogue()
    recorded, expressions = rules(findings)
    for rule in recorded:
        metrics[rule["record"]] = {"queue", "track", "release", "reason"} | ALWAYS
    shown = dashboards(findings)
    for where, expression in expressions + shown:
        check_expression(where, expression, metrics, values, findings)
    findings.need(len(metrics) > 30 and len(values) > 15, "docs/metrics.md could not be read")
    print("\n".join([*findings, f"{len(expressions)} rules and {len(shown)} queries of dashboards, {len(findings)} findings"]))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
