#!/usr/bin/env python3
"""Asks every query of every rule and dashboard of a real Prometheus that is fed by a real rollout; each must give data.

    live.py --binaries DIRECTORY --prometheus PROGRAM [--keep DIRECTORY]

What runs, all on loopback and on free ports: the embedded queue endpoint, a stream of orders of which some are poison, `canary rollout`
with a stable release and then a new one that fails more, `canary exporter`, and Prometheus with the rules of this directory, which finds the
workers by the exporter's /targets. `--keep` writes what Prometheus answered there, a JSON file for each query.

Only the standard library and PyYAML. About two minutes. Exit: 0 every query gave data, 1 not.
"""

import argparse
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
DASHBOARDS = HERE.parent
ROOT = HERE.parents[2]

# How long anything may take to come up, and a query to give data once the rollout is on.
PATIENCE = 90
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


def sqs_module():
    """localstack/queues.py, whose client speaks SQS's JSON protocol."""
    specification = importlib.util.spec_from_file_location("queues", ROOT / "localstack/queues.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def get(url, timeout=5):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=timeout) as answer:
        return answer.read().decode()


def wait_for(what, condition, seconds=PATIENCE):
    """Until `condition` gives something; its errors are for later."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            found = condition()
            if found:
                return found
        except (OSError, ValueError, KeyError) as error:
            last = error
        time.sleep(0.2)
    raise SystemExit(f"{what}: not within {seconds} s ({last})")


class Stage:
    """Everything that runs, and its end."""

    def __init__(self, arguments, directory):
        self.binaries = Path(arguments.binaries).resolve()
        self.prometheus = arguments.prometheus
        self.directory = directory
        self.processes = []
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("WORKER__", "AWS_", "HTTP", "http"))
        }

    def start(self, name, *command, output=None):
        log = (self.directory / f"{name}.log").open("wb")
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=output or log,
            stderr=log,
            text=True if output else None,
        )
        self.processes.append((name, process))
        return process

    def log(self, name):
        return (self.directory / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def end(self):
        for _, process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for name, process in self.processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                print(f"{name} does not end; it is killed", file=sys.stderr)
                process.kill()

    def line(self, name, pattern):
        """The first group of the pattern in the log of a process, once it is there."""
        return wait_for(f"{name} says {pattern!r}", lambda: (re.search(pattern, self.log(name)) or [None, None])[1])

    # ---- The parts --------------------------------------------------------------------------------------------------

    def queues(self):
        self.start("endpoint", self.binaries / "embedded-sqs", "--port", "0")
        self.endpoint = self.line("endpoint", r"listens on (http://\S+)").rstrip("/")
        self.environment.update(
            AWS_ENDPOINT_URL=self.endpoint,
            AWS_REGION="us-east-1",
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
        )
        module = sqs_module()
        self.sqs = module.Sqs(self.endpoint, "us-east-1")
        wait_for("the queues", lambda: module.run(self.sqs, apply=True) == 0)
        self.urls = {name: self.sqs.url(name) for name in ("orders", "orders-handover", "orders-dlq")}

    def orders(self):
        self.environment["LOCALSTACK_ENDPOINT"] = self.endpoint
        sender = ROOT / "localstack/orders.py"
        self.start("orders", sys.executable, sender, "--rate", RATE, "--poison", POISON)

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
        self.start(
            "prometheus", self.prometheus, "--config.file=prometheus.yml", "--web.listen-address=127.0.0.1:0",
            "--storage.tsdb.path=data", "--log.format=json",
        )  # fmt: skip
        address = self.line("prometheus", r'"Listening on","address":"([^"]+)"|"address":"([^"]+)","[^}]*Listening')
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


def play(stage, keep):
    stage.queues()
    stage.orders()
    stage.fleet()
    stage.exporter()
    stage.observe()
    first = stage.rollout("first", "1.0.0")
    if first.wait(timeout=PATIENCE) != 0:
        raise SystemExit(f"the first release was not promoted:\n{stage.log('first')}")
    second = stage.rollout("second", "1.1.0", "--set", "WORKER__ORDERS__RETRY_RATIO=0.03")
    wait_for("the canary's step", lambda: meaningful(stage.query('canary_rollout_phase{phase="step"} == 1')))
    missing = ask_all(stage, keep) + broken_rules(stage)
    # Two alerts in earnest: poison is dead-lettered, and then the release tool dies.
    wait_for("the alert DeadLettersGrow", lambda: "DeadLettersGrow" in firing(stage))
    second.kill()
    wait_for("the alert RolloutToolDead", lambda: "RolloutToolDead" in firing(stage), 150)
    third = stage.start("abort", stage.binaries / "canary", "abort", "--take-over", "--why", "the test is over")
    if third.wait(timeout=PATIENCE) != 3:
        raise SystemExit(f"the rollout was not rolled back:\n{stage.log('abort')}")
    wait_for("the alert ReleaseRolledBack", lambda: "ReleaseRolledBack" in firing(stage))
    return missing


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", required=True, help="directory of worker, canary and embedded-sqs")
    parser.add_argument("--prometheus", default=shutil.which("prometheus"), help="Prometheus' program")
    parser.add_argument("--keep", type=Path, help="directory for what Prometheus answered")
    arguments = parser.parse_args()
    if not arguments.prometheus:
        parser.error("no prometheus in PATH; expected --prometheus PROGRAM")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        stage = Stage(arguments, Path(directory))
        try:
            missing = play(stage, arguments.keep and arguments.keep.resolve())
        except SystemExit:
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
