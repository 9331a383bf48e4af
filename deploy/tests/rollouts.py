#!/usr/bin/env python3
"""Rolls releases out on ministack with the real release tool and real workers: ECS, SQS, S3, Systems Manager and CloudWatch.

    rollouts.py [--containers MADE] URL CANARY WORKER [SCENARIO]...     all scenarios when none is named

ministack simulates tasks: it says that they run. What runs for each of them is a worker process of this machine, started here as
ECS's agent would, with the environment of the task definition; and stopped by SIGTERM when ECS stops the task. With --containers
ministack runs real ones, of the images that the file MADE names. What the workers count goes to CloudWatch, where the release tool
reads it: nothing of the way is left out.
Run by deploy/tests/rollouts, which builds what is needed and starts ministack.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from application import APP, BUCKET, CANARY, CONTROL, JOURNAL, PINNED, STABLE, Cloud, Failure, Traffic, wait_for
from processes import Processes
from runtime_api import Lambda

HERE = Path(__file__).resolve().parent
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


class Bench:
    """One application with its workers, which run at `place`, and its traffic; each scenario has its own."""

    def __init__(self, url, place, directory):
        self.cloud, self.place, self.directory = Cloud(url, place), place, Path(directory)
        (self.directory / "plan.toml").write_text(PLAN)
        (self.directory / "canary.toml").write_text(
            f'[fleet]\nkind = "ecs"\napp = "{APP}"\njournal = "{JOURNAL}"\nready_within = "2m"\nautoscaling = false\n'
        )
        self.traffic = Traffic(self.cloud)

    def begin(self):
        self.place.start(self.cloud, self.directory)
        self.cloud.make()
        self.traffic.start()
        wait_for("stable's tasks", lambda: self.cloud.releases(STABLE) == ["1.0.0", "1.0.0"])
        for fault in self.place.confined():
            raise Failure(fault)

    def close(self):
        """Ends it all; what was wrong with how it ended."""
        self.traffic.over.set()
        self.traffic.join()
        return [*self.place.close(), *self.lost()]

    def lost(self):
        """Every message is done or in a queue: what the workers said at their end that they did, and what is there."""
        stopped = [line for log in self.place.ended_logs() for line in log.splitlines() if '"worker stopped"' in line]
        done = sum(json.loads(line)["done"] for line in stopped)
        there = sum(self.cloud.depth(queue) for queue in self.cloud.urls)
        if done + there < self.traffic.sent:
            yield f"{self.traffic.sent} messages were sent, {done} are done and {there} in a queue"

    def tool(self, *arguments, **more):
        environment = {"USER": "ci", **self.cloud.environment(), **more.pop("env", {})}
        return self.place.tool(arguments, self.directory, environment, **more)

    def rollout(self, release, *arguments, image=None):
        image = image or self.place.image(release)
        command = ["rollout", "--plan", "plan.toml", "--release", release, "--image", image, "--fleet", "ecs", "--take-over"]
        return self.tool(*command, *arguments)

    @contextlib.contextmanager
    def exporter(self):
        """`canary exporter` on the journal in S3; what it says at each call."""
        # As a process at any place: it is to be reached from here.
        command = [self.place.canary, "exporter", "--listen", "127.0.0.1:0", "--journal", JOURNAL]
        environment = {"PATH": os.environ["PATH"], **self.cloud.environment()}
        exporter = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
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

    def watchdog_environment(self):
        """What the template sets; and that ministack has no Application Auto Scaling."""
        template = (HERE.parent / "cloudformation" / "release-safety.yaml").read_text()
        environment = {
            "CANARY_APP": APP,
            "CANARY_CLUSTER": APP,
            "CANARY_JOURNAL": JOURNAL,
            "CANARY_CONTROL": f"ssm:{CONTROL}",
            "CANARY_STABLE_TASK_DEFINITION": f"ssm:{PINNED}",
            "CANARY_NOTIFY": "",
        }
        self.expect("variables of the template", set(re.findall(r"^ +(CANARY_\w+):", template, re.MULTILINE)), set(environment))
        return {**environment, "CANARY_AUTOSCALING": "false"}

    @contextlib.contextmanager
    def function(self, **changed):
        """`canary watchdog` as a Lambda function: the process, and the runtime API that it is given."""
        api = Lambda()
        # As a process at any place: it is to reach the API, which is here.
        settings = {**self.watchdog_environment(), **api.environment(), **changed}
        environment = {"PATH": os.environ["PATH"], **self.cloud.environment(), **settings}
        command = [self.place.canary, "watchdog"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            yield process, api
        finally:
            process.kill()  # Lambda asks nobody either
            process.communicate()
            api.server.shutdown()

    def watchdog(self, event=None, code=0):
        environment = self.watchdog_environment()
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
        """Nothing hangs; that every message is done or in a dead-letter queue is counted at the end of each scenario."""
        self.traffic.over.set()
        self.traffic.join()
        wait_for("the queues are empty", lambda: self.cloud.depth(APP) + self.cloud.depth(f"{APP}-handover") == 0, 90)


# ---- Scenarios ----------------------------------------------------------------------------------------------------------


def good(bench):
    """A good release is promoted, as the revision that was tested; the exporter and the report tell of it."""
    tool = bench.rollout("1.1.0")
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
    bench.ends(bench.rollout("2.0.0", "--set", "WORKER__ORDERS__RETRY_RATIO=0.4"), 3)
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
        "WORKER_IMAGE": bench.place.image("1.1.0"),
        "CANARY_APP": APP,
        "CANARY_JOURNAL": JOURNAL,
        "CANARY_PLAN": str(bench.directory / "plan.toml"),
        "CANARY_BIN": bench.place.canary,
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


def killed(bench, phases=("step", "promoting", "baking")):
    """The tool is killed in the first step, in the promotion and in the bake, and each time the same command goes on."""
    for phase in phases:
        tool = bench.rollout("1.1.0")
        bench.until(phase)
        tool.kill()
        tool.wait()
        heartbeat = bench.cloud.journal()["owner"]["heartbeat"]
        wait_for("the tool counts as dead", lambda beat=heartbeat: time.time() - beat > 31)
    bench.ends(bench.rollout("1.1.0"), 0)
    bench.expect_end("1.1.0")
    revisions = bench.cloud.ecs.list_task_definitions(familyPrefix=f"{APP}-worker")["taskDefinitionArns"]
    bench.expect("revisions: the first and one release", len(revisions), 2)
    bench.expect_nothing_lost()


def killed_promoting(bench):
    """The same, but in the promotion alone: the phase in which most is under way."""
    killed(bench, ("promoting",))


def scaled(bench):
    """Stable's number changes midway: it stays so, and the canary grows with it."""
    tool = bench.rollout("1.1.0")
    bench.until("step")
    bench.cloud.ecs.update_service(cluster=APP, service=STABLE, desiredCount=4)
    wait_for("the canary grows", lambda: bench.cloud.service(CANARY)["desiredCount"] == 3)
    bench.ends(tool, 0)
    bench.expect_end("1.1.0")
    bench.expect("stable's tasks", bench.cloud.service(STABLE)["desiredCount"], 4)
    bench.expect_nothing_lost()


STOPPED = {"source": "aws.codebuild", "detail": {"build-status": "STOPPED"}}
ALARM = {"source": "aws.cloudwatch", "alarmData": {"alarmName": f"{APP}-stable-failing", "state": {"value": "ALARM"}}}


def dies(bench, tool, silence=30):
    """The tool dies, and the build that ran it with it; so many seconds ago that the watchdog may act."""
    tool.kill()
    tool.wait()
    heartbeat = bench.cloud.journal()["owner"]["heartbeat"]
    wait_for("silence", lambda: time.time() - heartbeat > silence, silence + 30)


def left_alone(bench, phase, *arguments, release="1.1.0"):
    """A rollout whose tool dies in the phase."""
    tool = bench.rollout(release, *arguments)
    bench.until(phase)
    bench.expect("while the tool lives", bench.watchdog()["deed"], "nothing")
    dies(bench, tool)


def goes_on(bench, verdict, release):
    """A tool that is started again ends the rollout: its exit code, and the release that runs then."""
    bench.ends(bench.rollout("1.1.0"), verdict)
    bench.expect_end(release)
    bench.expect_nothing_lost()


def expect_safe(bench):
    """No canary works any more, and stable is what it was."""
    wait_for("no canary is left", lambda: bench.cloud.releases(CANARY) == [])
    bench.expect("paused", bench.cloud.control()["tracks"]["canary"]["paused"], True)
    bench.expect("stable", set(bench.cloud.releases(STABLE)), {"1.0.0"})


def expect_removed(bench, phase, *events):
    """The tool dies in the phase: at each event the canary goes, or is gone."""
    left_alone(bench, phase)
    for event in events:
        bench.expect(f"at {event['source']}", bench.watchdog(event)["deed"], "removed")
    expect_safe(bench)


def watchdog_while_deploying(bench):
    """The tool dies before the canary works: the canary goes; with an alarm the rollout is to be rolled back, and is."""
    expect_removed(bench, "deploying", STOPPED, ALARM)
    goes_on(bench, 3, "1.0.0")


def watchdog_before_promotion(bench):
    """The tool dies in a step: the canary goes; a tool started again goes on."""
    expect_removed(bench, "step", STOPPED)
    goes_on(bench, 0, "1.1.0")


def expect_restored(bench):
    """With an alarm the old release comes back, as stable and as control group; a tool started again rolls back in order."""
    for _ in range(3):
        bench.expect("with harm", bench.watchdog(ALARM)["deed"], "restoring")
    wait_for("the old release", lambda: set(bench.cloud.releases(STABLE)) == {"1.0.0"})
    bench.expect("pinned", bench.cloud.pinned(), "1.0.0")
    wait_for("the control group", lambda: set(bench.cloud.releases(CANARY)) == {"1.0.0"})
    goes_on(bench, 3, "1.0.0")


def watchdog_in_promotion(bench):
    """The tool dies while stable changes: without harm nothing is moved, and ECS goes on; with an alarm the old release comes back."""
    left_alone(bench, "promoting")
    bench.expect("without harm", bench.watchdog(STOPPED)["deed"], "alerted")
    wait_for("ECS goes on", lambda: set(bench.cloud.releases(STABLE)) == {"1.1.0"})
    expect_restored(bench)


def watchdog_after_promotion(bench):
    """The tool dies in the bake, and only the clock tells: without harm nothing moves; with an alarm the old release comes back."""
    tool = bench.rollout("1.1.0")
    bench.until("baking")
    dies(bench, tool, silence=91)
    bench.expect("without harm", bench.watchdog()["deed"], "alerted")
    bench.expect("stable", set(bench.cloud.releases(STABLE)), {"1.1.0"})
    expect_restored(bench)


def function(bench):
    """The watchdog as a Lambda function: one process serves event after event, an error ends none, a wrong setting is said at once."""
    schedule = {"source": "schedule"}
    with bench.function() as (process, api):

        def deed(event):
            answer = api.invoke(event)
            bench.expect("the application in the answer", answer["app"], APP)
            return answer["outcome"]["deed"]

        bench.expect("before any rollout", deed(schedule), "nothing")
        bench.cloud.s3.put_object(Bucket=BUCKET, Key=f"{APP}/journal.json", Body=b"{")
        error = api.invoke(schedule, "error")
        if "the journal is broken" not in error["errorMessage"] or JOURNAL not in error["errorMessage"]:
            raise Failure(f"a broken journal: {error}")
        bench.cloud.s3.delete_object(Bucket=BUCKET, Key=f"{APP}/journal.json")
        tool = bench.rollout("1.1.0")
        bench.until("step")
        for event in (schedule, ALARM, STOPPED, {"source": 7, "detail": []}, ["nonsense"], "nonsense", None):
            bench.expect(f"while the tool lives, at {event!r}", deed(event), "nothing")
        dies(bench, tool)
        bench.expect("an alarm within 90 s of the last sign of life", deed(ALARM), "nothing")
        for _ in range(2):
            bench.expect("by the build's end", deed(STOPPED), "removed")
        bench.expect("whether the function still runs", process.poll(), None)
    wait_for("no canary is left", lambda: bench.cloud.releases(CANARY) == [])
    bench.expect("paused", bench.cloud.control()["tracks"]["canary"]["paused"], True)
    bench.expect("stable", set(bench.cloud.releases(STABLE)), {"1.0.0"})
    expected = 'CANARY_CONTROL is "/orders"; expected ssm:/orders/canary/control'
    with bench.function(CANARY_CONTROL="/orders") as (process, api):
        error = api.posted("init/error")
        bench.expect("the error at start", error["errorMessage"], expected)
        _, log = process.communicate(timeout=60)
        bench.expect("exit code", process.returncode, 1)
        bench.expect("the log", log.splitlines(), [f"error: {expected}"])


def rolled_back_by(bench, what, image):
    """An image of which no container stays up is rolled back as soon as ECS gives it up, and ECS's reason is told; stable is untouched."""
    before = {arn for arn, (service, _) in bench.cloud.tasks().items() if service == STABLE}
    bench.ends(bench.rollout("2.0.0", image=image), 3)
    bench.expect_end("1.0.0")
    journal = bench.cloud.journal()
    reason = json.dumps(journal["state"]["phase"]["reason"])
    if "circuit breaker" not in reason:
        raise Failure(f"rolled back for {reason}; expected ECS's circuit breaker")
    (report,) = (bench.directory / ".canary" / "reports").glob("*.html")
    for where, text in (("timeline", json.dumps(journal["timeline"])), ("report", report.read_text())):
        if what not in text:
            raise Failure(f"the {where} does not tell of {what!r}")
    after = {arn for arn, (service, _) in bench.cloud.tasks().items() if service == STABLE}
    bench.expect("stable's tasks", after, before)
    bench.expect_nothing_lost()
    bench.expect("dead letters", bench.cloud.depth(f"{APP}-dlq"), 0)


def not_there(bench):
    """An image that the registry does not have."""
    repository = bench.place.image("1.0.0").partition("@")[0]
    rolled_back_by(bench, "CannotPullContainerError", f"{repository}@sha256:{'0' * 64}")


def does_not_start(bench):
    """An image without the C library that its binary needs: each container ends as soon as it has started."""
    rolled_back_by(bench, "Essential container exited", bench.place.image("broken"))


SCENARIOS = {
    function.__name__: function
    for function in (
        good,
        bad,
        script,
        killed,
        killed_promoting,
        scaled,
        watchdog_before_promotion,
        watchdog_in_promotion,
        watchdog_after_promotion,
        function,
    )
}
# What only real containers do: to fail at the start, and to take a while for it.
OF_CONTAINERS = {function.__name__: function for function in (not_there, does_not_start, watchdog_while_deploying)}


def run(scenario, url, place):
    """Whether all is as it should be."""
    began = time.monotonic()
    # Each scenario begins with nothing.
    urllib.request.urlopen(urllib.request.Request(f"{url}/_ministack/reset", method="POST"), timeout=30).read()
    faults = []
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(url, place, directory)
        try:
            bench.begin()
            scenario(bench)
        except Failure as failure:
            faults.append(str(failure))
            tell(bench)
        finally:
            faults += bench.close()
    for fault in faults:
        print(f"rollouts: {scenario.__name__}: {fault}", file=sys.stderr, flush=True)
    if not faults:
        print(f"rollouts: {scenario.__name__}: as it should be, {time.monotonic() - began:.0f} s", flush=True)
    return not faults


def main(arguments):
    parser = argparse.ArgumentParser(prog="rollouts.py", exit_on_error=False)
    parser.add_argument("--containers", metavar="MADE")
    for name in ("url", "canary", "worker"):
        parser.add_argument(name)
    parser.add_argument("scenarios", nargs="*")
    asked = parser.parse_args(arguments)
    scenarios = SCENARIOS | (OF_CONTAINERS if asked.containers else {})
    unknown = [name for name in asked.scenarios if name not in scenarios]
    if unknown:
        print(f"rollouts: unknown scenario {unknown[0]}; expected one of {', '.join(scenarios)}", file=sys.stderr)
        return 64
    if asked.containers:
        from containers import Containers  # its library is only needed here

        place = Containers(asked.canary, asked.containers)
    else:
        place = Processes(asked.canary, asked.worker)
    chosen = [scenarios[name] for name in asked.scenarios or scenarios]
    passed = sum(run(scenario, asked.url, place) for scenario in chosen)
    print(f"{passed} passed, {len(chosen) - passed} failed")
    return 0 if passed == len(chosen) else 1


def tell(bench):
    """What helps to see why."""
    journal = bench.cloud.journal() or {"timeline": []}
    for entry in journal["timeline"][-15:]:
        print(f"    {json.dumps(entry)[:300]}", file=sys.stderr)
    print(f"    tasks {bench.cloud.tasks()}", file=sys.stderr)
    for line in bench.place.logs():
        print(f"    {line[:300]}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
