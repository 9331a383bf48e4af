"""What tests of the documentation and of the dashboards play on: an embedded queue, orders, and processes that end with the test.

Only the standard library.
"""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# How long anything may take to come up.
PATIENCE = 90


def sqs_module():
    """localstack/queues.py, whose client speaks SQS's JSON protocol."""
    specification = importlib.util.spec_from_file_location("queues", ROOT / "localstack/queues.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


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

    def __init__(self, binaries, directory):
        self.binaries = Path(binaries).resolve()
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

    def orders(self, rate, poison):
        self.environment["LOCALSTACK_ENDPOINT"] = self.endpoint
        sender = ROOT / "localstack/orders.py"
        self.start("orders", sys.executable, sender, "--rate", rate, "--poison", poison)
