#!/usr/bin/env python3
"""Asks every query of every rule and dashboard of a real Prometheus that is fed by a real rollout; each must give data.

    live.py --binaries DIRECTORY --prometheus PROGRAM [--keep DIRECTORY] [--pictures DIRECTORY]

What runs, all on loopback and on free ports: the embedded queue endpoint, a stream of orders of which some are poison, `canary rollout`
with a stable release and then a new one that fails more, `canary exporter`, and Prometheus with the rules of this directory, which finds the
workers by the exporter's /targets. `--keep` writes what Prometheus answered there, a JSON file for each query; `--pictures` draws each
dashboard, for people to look at.

Only the standard library and PyYAML; for pictures matplotlib. About two minutes. Exit: 0 every query gave data, 1 not.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
DASHBOARDS = HERE.parent
sys.path.insert(0, str(HERE.parents[2] / "docs/tests"))

from stage import PATIENCE, Stage, free_port, get, wait_for  # noqa: E402

# Orders a second, and one in so many that no release can process.
RATE, POISON = 120, 25

PLAN = """
schema = 1
name = "live"
deadline = "20m"
inconclusive = "hold"
trickle = "5/s"

[risk]
false_rollback = "1%"
wrong_promotion = "5%"

[[steps]]
share = "20%"
least_time = "15m"
least_messages = 100000

[bake]
time = "10s"
share = "10%"

[redrive]
after_rollback = true
rate = "50/s"
"""


class Observed(Stage):
    """The stage with a fleet, an exporter and a Prometheus."""

    def fleet(self):
        (self.directory / "plan.toml").write_text(PLAN)
        (self.directory / "canary.toml").write_text(
            "[fleet]\nkind = 'local'\nstable = 2\ncanary = 1\n"
            f"command = ['{self.binaries / 'worker'}', 'run']\n[environment]\n"
            f"WORKER__QUEUE__URL = '{self.urls['orders']}'\nWORKER__DLQ__URL = '{self.urls['orders-dlq']}'\n"
            f"WORKER__HANDOVER__URL = '{self.urls['orders-handover']}'\nWORKER__ORDERS__LATENCY = '20ms'\n"
            "WORKER__QUEUE__WAIT = '1s'\nWORKER__CONTROL__INTERVAL = '1s'\n"
        )

    def rollout(self, name, release, *more):
        return self.start(
            name, self.binaries / "canary", "rollout", "--plan", "plan.toml", "--release", release, *more
        )

    def exporter(self):
        self.start(
            "exporter", self.binaries / "canary", "exporter", "--listen", "127.0.0.1:0", "--state", ".canary",
            "--queue", self.urls["orders"], "--handover", self.urls["orders-handover"], "--dlq", self.urls["orders-dlq"],
        )  # fmt: skip
        self.exported = self.line("exporter", r"exporter on http://(\S+?)/metrics")

    def observe(self):
        for rules in (DASHBOARDS / "prometheus").glob("*.rules.yml"):
            # As they are, but evaluated as often as is scraped.
            text = rules.read_text(encoding="utf-8").replace("interval: 15s", "interval: 1s")
            (self.directory / rules.name).write_text(text)
        settings = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["*.rules.yml"],
            "scrape_configs": [
                {"job_name": "rollout", "static_configs": [{"targets": [self.exported]}]},
                {
                    "job_name": "fleet",
                    "http_sd_configs": [{"url": f"http://{self.exported}/targets", "refresh_interval": "1s"}],
                },
            ],
        }
        (self.directory / "prometheus.yml").write_text(yaml.safe_dump(settings))
        # Prometheus does not say which port it took for 0.
        address = f"127.0.0.1:{free_port()}"
        self.start(
            "prometheus", self.prometheus, "--config.file=prometheus.yml", f"--web.listen-address={address}",
            "--storage.tsdb.path=data",
        )  # fmt: skip
        self.asked = f"http://{address}"
        wait_for("Prometheus", lambda: get(f"{self.asked}/-/ready"))

    def query(self, expression):
        quoted = urllib.parse.urlencode({"query": expression})
        try:
            return json.loads(get(f"{self.asked}/api/v1/query?{quoted}"))["data"]["result"]
        except urllib.error.HTTPError as error:
            raise SystemExit(f"Prometheus refuses {expression}: {error.read().decode()}") from error

    def series(self, expression):
        """The last minutes, for pictures."""
        now = time.time()
        quoted = urllib.parse.urlencode({"query": expression, "start": now - 300, "end": now, "step": 2})
        return json.loads(get(f"{self.asked}/api/v1/query_range?{quoted}"))["data"]["result"]


# ---- What is asked ------------------------------------------------------------------------------------------------


def filled(expression):
    """With what Grafana puts in place of its variables."""
    return (
        expression.replace("$queue", ".*")
        .replace("$__rate_interval", "1m")
        .replace("$__range", "5m")
        .replace("offset 30s", "offset 1s")
    )


# What a comparison leaves over may be nothing; what is compared must be there.
COMPARISON = re.compile(r"\s*(?:>=|<=|==|!=|>|<)(?:\s*bool)?\s*[-+]?(?:[0-9.]+|Inf)(?=\s*(?:\)|$|and|unless|or|/|\*))")
SELECTOR = re.compile(r"\b((?:worker|canary|queue|queue_release)[a-z0-9_:]+\b(?:\{[^}]*\})?)")
GROUPING = re.compile(r"\b(?:by|on|without|group_left|group_right|ignoring)\s*\([^)]*\)")


def selectors(expression):
    return SELECTOR.findall(GROUPING.sub("", filled(expression)))


def questions():
    """What must give data: (where from, expression)."""
    for file in sorted((DASHBOARDS / "prometheus").glob("*.rules.yml")):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                if "record" in rule:
                    yield f"rule {rule['record']}", rule["record"]
                else:
                    # An alert that is quiet says nothing; what it looks at must be there.
                    for selector in selectors(rule["expr"]):
                        yield f"alert {rule['alert']}", selector
    for file in sorted((DASHBOARDS / "grafana").glob("*.json")):
        dashboard = json.loads(file.read_text(encoding="utf-8"))
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield f"{dashboard['title']}: {panel['title']}", COMPARISON.sub("", filled(target["expr"]))
        for annotation in dashboard["annotations"]["list"]:
            for selector in selectors(annotation.get("expr", "")):
                yield f"{dashboard['title']}: {annotation['name']}", selector


def meaningful(result):
    """Data are series with a value that is a number."""
    return any(sample["value"][1] != "NaN" for sample in result)


def ask_all(stage, keep):
    open_questions, answered = dict.fromkeys(questions()), 0
    total = len(open_questions)
    end = time.monotonic() + PATIENCE
    while open_questions and time.monotonic() < end:
        for question in list(open_questions):
            if meaningful(stage.query(question[1])):
                del open_questions[question]
                answered += 1
        time.sleep(1)
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        for number, (where, expression) in enumerate(dict.fromkeys(questions())):
            answer = {"where": where, "query": expression, "series": stage.series(expression)}
            (keep / f"{number:03}.json").write_text(json.dumps(answer))
    for where, expression in open_questions:
        print(f"{where}: no data: {expression}")
    print(f"{total} queries, {answered} gave data")
    return len(open_questions)


def broken_rules(stage):
    """Rules that Prometheus could not evaluate."""
    count = 0
    for group in json.loads(get(f"{stage.asked}/api/v1/rules"))["data"]["groups"]:
        for rule in group["rules"]:
            if rule["health"] != "ok":
                count += 1
                print(f"rule {rule['name']}: {rule['health']}: {rule.get('lastError')}")
    return count


def firing(stage):
    alerts = json.loads(get(f"{stage.asked}/api/v1/alerts"))["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def draw_all(stage, began, pictures):
    """A picture of each dashboard, from the first release to the rollback of the second."""
    import draw

    pictures.mkdir(parents=True, exist_ok=True)
    now = time.time()
    for file in sorted((DASHBOARDS / "grafana").glob("*.json")):
        picture = pictures / f"{file.stem}.png"
        empty = draw.draw(stage.asked, file, began, now, picture)
        print(f"{picture}{': nothing on ' if empty else ''}{', '.join(empty)}")


def play(stage, keep, pictures):
    began = time.time()
    stage.queues()
    stage.orders(RATE, POISON)
    stage.fleet()
    stage.exporter()
    stage.observe()
    first = stage.rollout("first", "1.0.0", "--skip-canary", "the first one")
    if first.wait(timeout=PATIENCE) != 0:
        raise SystemExit(f"the first release was not promoted:\n{stage.log('first')}")
    second = stage.rollout("second", "1.1.0", "--set", "WORKER__ORDERS__RETRY_RATIO=0.03")
    wait_for("the canary's step", lambda: meaningful(stage.query('canary_rollout_phase{phase="step"} == 1')))
    missing = ask_all(stage, keep) + broken_rules(stage)
    # Two alerts in earnest: poison is dead-lettered, and then the release tool dies.
    wait_for("the alert DeadLettersGrow", lambda: "DeadLettersGrow" in firing(stage))
    if pictures:
        # Something to see of the step: the judge's evidence grows by then.
        wait_for("a minute of the step", lambda: time.time() - began > 90)
    second.kill()
    wait_for("the alert RolloutToolDead", lambda: "RolloutToolDead" in firing(stage), 150)
    third = stage.start("abort", stage.binaries / "canary", "abort", "--take-over", "--why", "the test is over")
    if third.wait(timeout=PATIENCE) != 3:
        raise SystemExit(f"the rollout was not rolled back:\n{stage.log('abort')}")
    wait_for("the alert ReleaseRolledBack", lambda: "ReleaseRolledBack" in firing(stage))
    if pictures:
        draw_all(stage, began, pictures)
    return missing


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", required=True, help="directory of worker, canary and embedded-sqs")
    parser.add_argument("--prometheus", default=shutil.which("prometheus"), help="Prometheus' program")
    parser.add_argument("--keep", type=Path, help="directory for what Prometheus answered")
    parser.add_argument("--pictures", type=Path, help="directory for a picture of each dashboard")
    arguments = parser.parse_args()
    if not arguments.prometheus:
        parser.error("no prometheus in PATH; expected --prometheus PROGRAM")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        stage = Observed(arguments.binaries, Path(directory))
        stage.prometheus = arguments.prometheus
        try:
            missing = play(stage, *(path and path.resolve() for path in (arguments.keep, arguments.pictures)))
        except BaseException:
            for name, _ in stage.processes:
                print(f"---- {name}\n{stage.log(name)[-1500:]}", file=sys.stderr)
            raise
        finally:
            if (Path(directory) / "canary.toml").exists():
                stop = [str(stage.binaries / "canary"), "fleet", "stop"]
                subprocess.run(stop, cwd=directory, env=stage.environment, timeout=90, check=False)
            stage.end()
    print(f"{'FAILED' if missing else 'passed'} in {time.monotonic() - began:.0f} s")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
