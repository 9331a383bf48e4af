#!/usr/bin/env python3
"""Rolls releases out on ministack with the real release tool and real workers: ECS, SQS, S3, Systems Manager and CloudWatch.

    rollouts.py URL CANARY WORKER [SCENARIO]...     all scenarios when none is named

ministack simulates tasks: it says that they run. What runs for each of them is a worker process of this machine, started here as
ECS's agent would, with the environment of the task definition; and stopped by SIGTERM when ECS stops the task. What the workers count
goes to CloudWatch, where the release tool reads it: nothing of the way is left out but the containers.
Run by deploy/tests/rollouts, which builds what is needed and starts ministack.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import boto3
import botocore.config

HERE = Path(__file__).resolve().parent
ACCOUNT, REGION = "000000000000", "us-east-1"
APP = "orders"
STABLE, CANARY = f"{APP}-stable", f"{APP}-canary"
PINNED, CONTROL = f"/{APP}/canary/stable-task-definition", f"/{APP}/canary/control"
BUCKET = "orders-canary-journal"
JOURNAL = f"s3://{BUCKET}/{APP}/journal.json"
RATE = 80  # messages a second
PLAN = """
schema = 1
name = "emulated"
deadline = "5m"
trickle = "2/s"
[risk]
ceiling = "2%"
stretch = "5s"
[[steps]]
share = "20%"
least_time = "10s"
least_messages = 40
[[steps]]
share = "35%"
least_time = "15s"
least_messages = 120
[bake]
time = "15s"
share = "20%"
"""


def image(digit):
    return f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/orders-worker@sha256:{digit * 64}"


class Failure(Exception):
    """What is not as it should be."""


def wait_for(what, condition, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.3)
    raise Failure(f"{what}: not within {seconds} s")


class Cloud:
    """The application on ministack: queues, bucket, parameters, cluster and services."""

    def __init__(self, url):
        self.url = url
        self.ecs, self.sqs, self.s3, self.ssm, self.cloudwatch = (
            self.client(name) for name in ("ecs", "sqs", "s3", "ssm", "cloudwatch")
        )

    def client(self, service):
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=botocore.config.Config(retries={"total_max_attempts": 3}, s3={"addressing_style": "path"}),
        )

    def environment(self):
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    def make(self):
        self.urls = {name: self.sqs.create_queue(QueueName=name)["QueueUrl"] for name in (f"{APP}-dlq",)}
        arn = self.sqs.get_queue_attributes(QueueUrl=self.urls[f"{APP}-dlq"], AttributeNames=["QueueArn"])
        policy = json.dumps({"deadLetterTargetArn": arn["Attributes"]["QueueArn"], "maxReceiveCount": 5})
        self.sqs.set_queue_attributes(QueueUrl=self.urls[f"{APP}-dlq"], Attributes={"MessageRetentionPeriod": "1209600"})
        for name in (APP, f"{APP}-handover"):
            attributes = {"RedrivePolicy": policy, "VisibilityTimeout": "30"}
            self.urls[name] = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.s3.create_bucket(Bucket=BUCKET)
        self.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        self.ecs.create_cluster(clusterName=APP)
        first = self.ecs.register_task_definition(**self.definition())["taskDefinition"]["taskDefinitionArn"]
        self.ssm.put_parameter(Name=PINNED, Value=first, Type="String", Overwrite=True)
        for name, desired in ((STABLE, 2), (CANARY, 0)):
            self.ecs.create_service(
                cluster=APP,
                serviceName=name,
                taskDefinition=first,
                desiredCount=desired,
                deploymentConfiguration={"deploymentCircuitBreaker": {"enable": True, "rollback": name == STABLE}},
            )

    def definition(self):
        """The one of deploy/task-definitions, but for the queues of here, and for what tells nothing about simulated tasks."""
        definition = json.loads((HERE.parent / "task-definitions" / "worker.json").read_text())
        worker = definition["containerDefinitions"][0]
        del worker["healthCheck"]
        worker["image"] = image("a")
        changed = {
            "WORKER__QUEUE__URL": self.urls[APP],
            "WORKER__DLQ__URL": self.urls[f"{APP}-dlq"],
            "WORKER__HANDOVER__URL": self.urls[f"{APP}-handover"],
            "WORKER__ADMIN__ADDRESS": "127.0.0.1:0",
            "WORKER__HANDLER__DEADLINE": "2s",
            "WORKER__SHUTDOWN__TIMEOUT": "8s",
            "WORKER__QUEUE__WAIT": "1s",
            "WORKER__CONCURRENCY": "20",
            "WORKER__ORDERS__LATENCY": "20ms",
            # Sooner than a minute, so that a scenario takes minutes and not hours.
            "WORKER__CLOUDWATCH__INTERVAL": "2s",
            "WORKER__CONTROL__INTERVAL": "1s",
        }
        environment = {pair["name"]: pair["value"] for pair in worker["environment"]} | changed
        worker["environment"] = [{"name": name, "value": value} for name, value in environment.items()]
        return definition

    # ---- What is there ---------------------------------------------------------------------------------------------------

    def service(self, name):
        return self.ecs.describe_services(cluster=APP, services=[name])["services"][0]

    def tasks(self):
        """ARN of every task that runs: its service and its task definition."""
        found = {}
        for name in (STABLE, CANARY):
            arns = self.ecs.list_tasks(cluster=APP, serviceName=name, desiredStatus="RUNNING")["taskArns"]
            for task in self.ecs.describe_tasks(cluster=APP, tasks=arns)["tasks"] if arns else []:
                if task["lastStatus"] == "RUNNING":
                    found[task["taskArn"]] = (name, task["taskDefinitionArn"])
        return found

    def release_of(self, arn):
        worker = self.ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]["containerDefinitions"][0]
        return {pair["name"]: pair["value"] for pair in worker["environment"]}["WORKER__RELEASE"]

    def releases(self, service):
        return sorted(self.release_of(definition) for name, definition in self.tasks().values() if name == service)

    def pinned(self):
        return self.release_of(self.ssm.get_parameter(Name=PINNED)["Parameter"]["Value"])

    def control(self):
        return json.loads(self.ssm.get_parameter(Name=CONTROL)["Parameter"]["Value"])

    def journal(self):
        with contextlib.suppress(self.s3.exceptions.NoSuchKey):
            return json.loads(self.s3.get_object(Bucket=BUCKET, Key=f"{APP}/journal.json")["Body"].read())
        return None

    def depth(self, queue):
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.urls[queue], AttributeNames=names)["Attributes"]
        return sum(int(value) for value in attributes.values())


class Agent(threading.Thread):
    """A worker process for each task that runs."""

    def __init__(self, cloud, worker, logs):
        super().__init__(daemon=True)
        self.cloud, self.worker, self.logs = cloud, worker, logs
        self.workers, self.stopping, self.over = {}, [], threading.Event()

    def run(self):
        while not self.over.wait(0.4):
            with contextlib.suppress(botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
                self.reconcile(self.cloud.tasks())
        self.reconcile({})
        for worker in self.stopping:
            worker.wait(timeout=20)

    def reconcile(self, tasks):
        for arn in [arn for arn in self.workers if arn not in tasks]:
            worker = self.workers.pop(arn)
            worker.send_signal(signal.SIGTERM)
            self.stopping.append(worker)
        for arn, (service, definition) in tasks.items():
            if arn not in self.workers:
                self.workers[arn] = self.start_worker(arn, service, definition)

    def start_worker(self, arn, service, definition):
        described = self.cloud.ecs.describe_task_definition(taskDefinition=definition)["taskDefinition"]
        container = {pair["name"]: pair["value"] for pair in described["containerDefinitions"][0]["environment"]}
        # What the metadata endpoint of a real task says.
        known = {"WORKER__SERVICE": service, "WORKER__TRACK": "canary" if service == CANARY else "stable"}
        # ministack takes compressed data for none.
        known["AWS_DISABLE_REQUEST_COMPRESSION"] = "true"
        log = open(self.logs / f"{service}-{arn.rsplit('/')[-1]}.log", "w")
        environment = {"PATH": os.environ["PATH"], **self.cloud.environment(), **container, **known}
        return subprocess.Popen([self.worker, "run"], env=environment, stdout=log, stderr=log)


def order(number):
    item = {"sku": f"article-{number % 100}", "quantity": 1, "unit_price_cents": 1999}
    return json.dumps({"order_id": f"o-{number}", "customer": f"customer-{number % 1000}", "currency": "EUR", "items": [item]})


class Traffic(threading.Thread):
    """Messages at a constant rate."""

    def __init__(self, cloud):
        super().__init__(daemon=True)
        self.cloud, self.sent, self.over = cloud, 0, threading.Event()

    def run(self):
        began = time.monotonic()
        while not self.over.is_set():
            if self.sent >= (time.monotonic() - began) * RATE:
                time.sleep(0.02)
                continue
            entries = [{"Id": str(n), "MessageBody": order(self.sent + n)} for n in range(10)]
            self.cloud.sqs.send_message_batch(QueueUrl=self.cloud.urls[APP], Entries=entries)
            self.sent += len(entries)


class Bench:
    """One application with its workers and its traffic; each scenario has its own."""

    def __init__(self, url, canary, worker, directory):
        self.cloud, self.canary, self.directory = Cloud(url), canary, Path(directory)
        (self.directory / "plan.toml").write_text(PLAN)
        (self.directory / "canary.toml").write_text(
            f'[fleet]\nkind = "ecs"\napp = "{APP}"\njournal = "{JOURNAL}"\nready_within = "2m"\nautoscaling = false\n'
        )
        self.cloud.make()
        self.agent, self.traffic = Agent(self.cloud, worker, self.directory), Traffic(self.cloud)
        self.agent.start()
        self.traffic.start()
        wait_for("stable's tasks", lambda: self.cloud.releases(STABLE) == ["1.0.0", "1.0.0"])

    def close(self):
        self.traffic.over.set()
        self.traffic.join()
        self.agent.over.set()
        self.agent.join()

    def tool(self, *arguments, **more):
        environment = {"PATH": os.environ["PATH"], "USER": "ci", **self.cloud.environment(), **more.pop("env", {})}
        return subprocess.Popen([self.canary, *arguments], cwd=self.directory, env=environment, text=True, **more)

    def rollout(self, release, digit, *arguments):
        command = ["rollout", "--plan", "plan.toml", "--release", release, "--image", image(digit), "--fleet", "ecs", "--take-over"]
        return self.tool(*command, *arguments)

    @contextlib.contextmanager
    def exporter(self):
        """`canary exporter` on the journal in S3; what it says at each call."""
        exporter = self.tool("exporter", "--listen", "127.0.0.1:0", "--journal", JOURNAL, stdout=subprocess.PIPE)
        try:
            address = exporter.stdout.readline().split()[-1]
            yield lambda: urllib.request.urlopen(address, timeout=30).read().decode()
        finally:
            exporter.terminate()
            exporter.wait(timeout=20)

    def ends(self, tool, code, seconds=300):
        try:
            have = tool.wait(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            tool.kill()
            raise Failure(f"the release tool does not end: {self.phase()}") from error
        self.expect("exit code", have, code)

    def phase(self):
        journal = self.cloud.journal()
        return journal and journal["state"]["phase"]["phase"]

    def until(self, phase, seconds=180):
        wait_for(f"the phase {phase}", lambda: self.phase() == phase, seconds)

    def watchdog(self, event=None, code=0):
        environment = {
            "CANARY_APP": APP,
            "CANARY_CLUSTER": APP,
            "CANARY_JOURNAL": JOURNAL,
            "CANARY_CONTROL": f"ssm:{CONTROL}",
            "CANARY_STABLE_TASK_DEFINITION": f"ssm:{PINNED}",
            "CANARY_AUTOSCALING": "false",
        }
        tool = self.tool(
            "watchdog", "--event", "-", env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        output, _ = tool.communicate(json.dumps(event or {"source": "schedule"}), timeout=60)
        self.expect("the watchdog's exit code", tool.returncode, code)
        return json.loads(output)

    @staticmethod
    def expect(what, have, want):
        if have != want:
            raise Failure(f"{what}: {have!r}; expected {want!r}")

    def expect_end(self, release):
        wait_for(f"stable runs {release} alone", lambda: set(self.cloud.releases(STABLE)) == {release})
        wait_for("no canary is left", lambda: self.cloud.releases(CANARY) == [])
        self.expect("pinned", self.cloud.pinned(), release)
        self.expect("tracks", self.cloud.control()["tracks"], {})
        self.expect("owner", self.cloud.journal()["owner"], None)

    def published(self, name):
        """What CloudWatch has of a series of the release tool, oldest first."""
        metric = {"Namespace": "QueueWorker", "MetricName": name, "Dimensions": [{"Name": "App", "Value": APP}]}
        query = {"Id": "q", "MetricStat": {"Metric": metric, "Period": 1, "Stat": "Maximum"}}
        now = time.time()
        answer = self.cloud.cloudwatch.get_metric_data(
            MetricDataQueries=[query], StartTime=now - 900, EndTime=now + 60, ScanBy="TimestampAscending"
        )
        return answer["MetricDataResults"][0]["Values"]

    def expect_published(self):
        """The release tool has said in CloudWatch where the rollout was, and that it is over."""
        self.expect("the last phase in CloudWatch", self.published("RolloutPhase")[-1:], [0])
        self.expect("promoted in CloudWatch", [value for value in self.published("RolloutPromoted") if value], [1])
        phases = set(self.published("RolloutPhase"))
        if not {3, 6} <= phases:
            raise Failure(f"CloudWatch has the phases {phases}; expected 3, a step, and 6, the bake, among them")
        if not {20, 35} <= set(self.published("CanaryShareWanted")):
            raise Failure(f"CloudWatch has the shares {self.published('CanaryShareWanted')}; expected 20 and 35 among them")
        if max(self.published("EvidenceForPromotion"), default=0) <= 0:
            raise Failure(f"CloudWatch has the evidence {self.published('EvidenceForPromotion')}; expected it to grow")

    def expect_nothing_lost(self):
        """Every message is done or in a dead-letter queue; nothing hangs."""
        self.traffic.over.set()
        self.traffic.join()
        wait_for("the queues are empty", lambda: self.cloud.depth(APP) + self.cloud.depth(f"{APP}-handover") == 0, 90)


# ---- Scenarios ----------------------------------------------------------------------------------------------------------


def good(bench):
    """A good release is promoted, as the revision that was tested; the exporter and the report tell of it."""
    tool = bench.rollout("1.1.0", "b")
    with bench.exporter() as scrape:
        for phase in ("step", "baking", "ended"):
            series = f'canary_rollout_phase{{release="1.1.0",phase="{phase}"}} 1'
            wait_for(f"the exporter tells of the phase {phase}", lambda series=series: series in scrape().splitlines(), 180)
        bench.ends(tool, 0)
        page = scrape().splitlines()
        for series in ("canary_journal_up 1", 'canary_rollout_outcome{release="1.1.0",outcome="promoted"} 1'):
            if series not in page:
                raise Failure(f"the exporter does not say {series}:\n" + "\n".join(page))
    bench.expect_end("1.1.0")
    bench.expect_published()
    journal = bench.cloud.journal()
    tested = journal["state"]["candidate"]["definition"]["task_definition"]
    bench.expect("what runs", bench.cloud.service(STABLE)["taskDefinition"], tested)
    bench.expect_nothing_lost()
    bench.expect("dead letters", bench.cloud.depth(f"{APP}-dlq"), 0)
    for command in (["history"], ["status", "--journal", JOURNAL]):
        tool = bench.tool(*command, stdout=subprocess.PIPE)
        output, _ = tool.communicate(timeout=60)
        if "1.1.0" not in output:
            raise Failure(f"{command[0]} does not name the release:\n{output}")


def bad(bench):
    """A bad release is rolled back, its failures done by stable; then a release before it is put back by hand."""
    bench.ends(bench.rollout("2.0.0", "c", "--set", "WORKER__ORDERS__RETRY_RATIO=0.4"), 3)
    bench.expect_end("1.0.0")
    reason = bench.cloud.journal()["state"]["phase"]["reason"]["reason"]
    if reason not in ("harm", "guard"):
        raise Failure(f"rolled back for {reason}; expected harm or guard")
    bench.expect_nothing_lost()
    bench.expect("dead letters: what the canary failed cost no message", bench.cloud.depth(f"{APP}-dlq"), 0)


def script(bench):
    """canary.sh passes the verdict on and leaves a report."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(bench.directory),
        **bench.cloud.environment(),
        "RELEASE": "1.1.0",
        "WORKER_IMAGE": image("b"),
        "CANARY_APP": APP,
        "CANARY_JOURNAL": JOURNAL,
        "CANARY_PLAN": str(bench.directory / "plan.toml"),
        "CANARY_BIN": bench.canary,
        "CANARY_REPORT": str(bench.directory / "report"),
        "CANARY_SETTINGS": "autoscaling = false",
        "GITHUB_STEP_SUMMARY": str(bench.directory / "step.md"),
    }
    done = subprocess.run([HERE.parent / "pipeline" / "canary.sh"], env=environment, timeout=400, check=False)
    bench.expect("exit code", done.returncode, 0)
    report = json.loads((bench.directory / "report" / "report.json").read_text())
    page = (bench.directory / "report" / "report.html").read_text()
    if "1.1.0" not in json.dumps(report) or "1.1.0" not in page or "1.1.0" not in (bench.directory / "step.md").read_text():
        raise Failure("the report does not name the release")


def killed(bench):
    """The tool is killed in the first step and in the promotion, and each time the same command goes on."""
    for phase in ("step", "promoting", "baking"):
        tool = bench.rollout("1.1.0", "b")
        bench.until(phase)
        tool.kill()
        tool.wait()
        heartbeat = bench.cloud.journal()["owner"]["heartbeat"]
        wait_for("the tool counts as dead", lambda beat=heartbeat: time.time() - beat > 31)
    bench.ends(bench.rollout("1.1.0", "b"), 0)
    bench.expect_end("1.1.0")
    revisions = bench.cloud.ecs.list_task_definitions(familyPrefix=f"{APP}-worker")["taskDefinitionArns"]
    bench.expect("revisions: the first and one release", len(revisions), 2)
    bench.expect_nothing_lost()


def scaled(bench):
    """Stable's number changes midway: it stays so, and the canary grows with it."""
    tool = bench.rollout("1.1.0", "b")
    bench.until("step")
    bench.cloud.ecs.update_service(cluster=APP, service=STABLE, desiredCount=4)
    wait_for("the canary grows", lambda: bench.cloud.service(CANARY)["desiredCount"] == 3)
    bench.ends(tool, 0)
    bench.expect_end("1.1.0")
    bench.expect("stable's tasks", bench.cloud.service(STABLE)["desiredCount"], 4)
    bench.expect_nothing_lost()


def watchdog_before_promotion(bench):
    """The tool dies in a step: the canary goes; a tool started again goes on."""
    tool = bench.rollout("1.1.0", "b")
    bench.until("step")
    bench.expect("while the tool lives", bench.watchdog()["deed"], "nothing")
    tool.kill()
    tool.wait()
    heartbeat = bench.cloud.journal()["owner"]["heartbeat"]
    stopped = {"source": "aws.codebuild", "detail": {"build-status": "STOPPED"}}
    wait_for("silence", lambda: time.time() - heartbeat > 30)
    bench.expect("by the build's end", bench.watchdog(stopped)["deed"], "removed")
    wait_for("no canary is left", lambda: bench.cloud.releases(CANARY) == [])
    bench.expect("paused", bench.cloud.control()["tracks"]["canary"]["paused"], True)
    bench.expect("stable", set(bench.cloud.releases(STABLE)), {"1.0.0"})
    bench.ends(bench.rollout("1.1.0", "b"), 0)
    bench.expect_end("1.1.0")


def watchdog_after_promotion(bench):
    """The tool dies in the bake: without harm nothing moves; with an alarm the old release comes back."""
    tool = bench.rollout("1.1.0", "b")
    bench.until("baking")
    tool.kill()
    tool.wait()
    heartbeat = bench.cloud.journal()["owner"]["heartbeat"]
    wait_for("silence", lambda: time.time() - heartbeat > 91, 120)
    bench.expect("without harm", bench.watchdog()["deed"], "alerted")
    bench.expect("stable", set(bench.cloud.releases(STABLE)), {"1.1.0"})
    alarm = {
        "source": "aws.cloudwatch",
        "alarmData": {"alarmName": f"{APP}-stable-failing", "state": {"value": "ALARM"}},
    }
    for _ in range(3):
        bench.expect("with harm", bench.watchdog(alarm)["deed"], "restoring")
    wait_for("the old release", lambda: set(bench.cloud.releases(STABLE)) == {"1.0.0"})
    bench.expect("pinned", bench.cloud.pinned(), "1.0.0")
    bench.expect("the control group", set(bench.cloud.releases(CANARY)), {"1.0.0"})
    bench.ends(bench.rollout("1.1.0", "b"), 3)
    bench.expect_end("1.0.0")


SCENARIOS = {
    function.__name__: function
    for function in (good, bad, script, killed, scaled, watchdog_before_promotion, watchdog_after_promotion)
}


def main(arguments):
    if len(arguments) < 3 or any(name not in SCENARIOS for name in arguments[3:]):
        print(f"usage: rollouts.py URL CANARY WORKER [{'|'.join(SCENARIOS)}]...", file=sys.stderr)
        return 64
    url, canary, worker, *chosen = arguments
    failed = 0
    for name in chosen or SCENARIOS:
        began = time.monotonic()
        # Each scenario begins with nothing.
        urllib.request.urlopen(urllib.request.Request(f"{url}/_ministack/reset", method="POST"), timeout=30).read()
        with tempfile.TemporaryDirectory() as directory:
            bench = Bench(url, canary, worker, directory)
            try:
                SCENARIOS[name](bench)
                print(f"rollouts: {name}: as it should be, {time.monotonic() - began:.0f} s", flush=True)
            except Failure as failure:
                failed += 1
                print(f"rollouts: {name}: {failure}", file=sys.stderr, flush=True)
                tell(bench)
            finally:
                bench.close()
    total = len(chosen or SCENARIOS)
    print(f"{total - failed} passed, {failed} failed")
    return 1 if failed else 0


def tell(bench):
    """What helps to see why."""
    journal = bench.cloud.journal() or {"timeline": []}
    for entry in journal["timeline"][-15:]:
        print(f"    {json.dumps(entry)[:300]}", file=sys.stderr)
    print(f"    tasks {bench.cloud.tasks()}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
