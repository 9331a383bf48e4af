#!/usr/bin/env python3
"""Plays deploy.sh and verify-on-aws.sh against an account in this process (aws_cli.py), which AWS's own models and the templates keep
honest.

deploy.sh: what it changes and in which order, that every parameter is one of the template and as the template wants it, a second run that
changes nothing, and where it stops. verify-on-aws.sh: every mark is made where all is well; and for each mark there is something wrong
that it must notice, and no other does.

Needs bash, jq, and PyYAML and botocore of .ci/tools.lock. Exit: 0 all is so, 1 not.
"""

import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "cloudformation")]
import render  # noqa: E402
from aws_cli import Aws, Misused, Refused, overrides  # noqa: E402

DEPLOY = HERE.parent
ACCOUNT, REGION = "111122223333", "us-east-1"
REVISION = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/orders-worker:1"
LATER = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/orders-worker:7"
PINNED = "/orders/canary/stable-task-definition"
DIGESTS = {name: "sha256:" + sign * 64 for name, sign in (("worker", "1"), ("canary", "2"), ("good", "3"), ("bad", "4"))}
CONNECTION = f"arn:aws:codeconnections:{REGION}:{ACCOUNT}:connection/1"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:alarms"


class Checks:
    """Counts what was looked at, and prints what is not as it should be."""

    def __init__(self):
        self.made, self.wrong = 0, 0

    def equal(self, what, have, want, played):
        self.made += 1
        if have != want:
            self.wrong += 1
            print(f"scripts: {what}: {have!r}; expected {want!r}\n{played.output[-3000:]}", file=sys.stderr)


class Played:
    """A run of a script with an account."""

    def __init__(self, account, script, *arguments, **variables):
        before = len(account.calls), len(account.wrong)
        done = subprocess.run(
            [DEPLOY / script, *arguments],
            env=account.environment(**variables),
            cwd=account.directory,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )
        self.status, self.output = done.returncode, done.stdout
        self.calls, self.misuses = account.calls[before[0] :], account.wrong[before[1] :]


class Account(Aws):
    """What both scripts ask for: stacks with the outputs that their templates have, and parameters."""

    def __init__(self, directory):
        super().__init__(directory)
        self.stacks, self.parameters_kept = {}, {}

    def install(self, name):
        values = {
            "JournalUri": "s3://journal/orders/journal.json",
            "TaskDefinitionArn": REVISION,
            "ReleaseToolPolicyArn": f"arn:aws:iam::{ACCOUNT}:policy/orders-release-tool-{REGION}",
        }
        outputs = render.load(f"{name}.yaml")["Outputs"]
        self.stacks[f"orders-{name}"] = {
            "StackName": f"orders-{name}",
            "CreationTime": 0,
            "StackStatus": "UPDATE_COMPLETE",
            "Outputs": [{"OutputKey": key, "OutputValue": values.get(key, f"the {key}")} for key in outputs],
        }

    def cloudformation_describe_stacks(self, asked):
        if asked["StackName"] not in self.stacks:
            raise Refused("ValidationError", f"Stack with id {asked['StackName']} does not exist")
        return {"Stacks": [self.stacks[asked["StackName"]]]}

    def ssm_get_parameter(self, asked):
        if asked["Name"] not in self.parameters_kept:
            raise Refused("ParameterNotFound", "")
        return {"Parameter": {"Name": asked["Name"], "Value": self.parameters_kept[asked["Name"]]}}


# ---- deploy.sh --------------------------------------------------------------------------------------------------------

LEAST = [
    *("--app", "orders", "--release", "1.0.0", "--worker-digest", DIGESTS["worker"]),
    *("--vpc", "vpc-0a", "--subnets", "subnet-0a,subnet-0b"),
]  # fmt: skip
WHOLE = [
    *LEAST,
    *("--canary-digest", DIGESTS["canary"], "--topic", TOPIC, "--max-tasks", "20"),
    *("--connection", CONNECTION, "--repository", "owner/orders"),
]  # fmt: skip
FIRST = ["ecr create-repository", "ecr create-repository", "ssm put-parameter", "orders-queue", "orders-service", "ssm put-parameter"]


class Empty(Account):
    """An account without anything but the worker's image, once it has its repository."""

    def __init__(self, directory, images=(DIGESTS["worker"],), failing=None):
        super().__init__(directory)
        self.images, self.failing = images, failing
        self.repositories, self.changes, self.given = set(), [], {}

    def cli_configure_get(self, rest):
        raise Misused("the region is in the environment")

    def sts_get_caller_identity(self, _):
        return {"Account": ACCOUNT}

    def ecr_describe_repositories(self, asked):
        if not set(asked["repositoryNames"]) <= self.repositories:
            raise Refused("RepositoryNotFoundException")
        return {"repositories": [{"repositoryName": name} for name in asked["repositoryNames"]]}

    def ecr_create_repository(self, asked):
        self.repositories.add(asked["repositoryName"])
        self.changes.append("ecr create-repository")

    def ecr_describe_images(self, asked):
        if asked["repositoryName"] not in self.repositories:
            raise Refused("RepositoryNotFoundException")
        if asked["imageIds"][0]["imageDigest"] not in self.images:
            raise Refused("ImageNotFoundException")
        return {"imageDetails": [asked["imageIds"][0]]}

    def ssm_put_parameter(self, asked):
        if asked["Name"] in self.parameters_kept and not asked.get("Overwrite"):
            raise Refused("ParameterAlreadyExists")
        self.parameters_kept[asked["Name"]] = asked["Value"]
        self.changes.append("ssm put-parameter")
        return {"Version": 1}

    def cli_cloudformation_deploy(self, rest):
        """The CLI's own command, which makes or updates a stack and waits for it."""
        _, options = self.options(rest)
        known = {"stack_name", "template_file", "capabilities", "no_fail_on_empty_changeset", "tags", "parameter_overrides"}
        if unknown := options.keys() - known:
            raise Misused(f"deploy has no {sorted(unknown)}")
        (name,), (file,) = options["stack_name"], options["template_file"]
        template = render.load(Path(file).relative_to(DEPLOY / "cloudformation").name)
        if found := list(overrides(template, options["parameter_overrides"], self.parameters_kept)):
            raise Misused("; ".join(found))
        named = any("RoleName" in each.get("Properties", {}) for each in template["Resources"].values())
        if named and options.get("capabilities") != ["CAPABILITY_NAMED_IAM"]:
            raise Refused("InsufficientCapabilitiesException")
        self.changes.append(name)
        self.given[name] = dict(pair.split("=", 1) for pair in options["parameter_overrides"])
        if name == self.failing:
            raise Refused("ValidationError", "the stack failed")
        self.install(name.removeprefix("orders-"))
        return ""


def installations(checks, directory):
    def account(**more):
        made = Empty(Path(tempfile.mkdtemp(dir=directory)), **more)
        made.programs.mkdir(exist_ok=True)
        return made

    whole = [*FIRST, "orders-scaling", "orders-release-safety", "orders-observability", "orders-pipeline"]
    parts = [*FIRST, "orders-scaling", "orders-observability"]
    for what, arguments, changes in (("the least", LEAST, parts), ("everything", WHOLE, whole)):
        aws = account()
        played = Played(aws, "deploy.sh", *arguments)
        checks.equal(f"{what}: status and what the CLI refuses", (played.status, played.misuses), (0, []), played)
        checks.equal(f"{what}: what is made, in this order", aws.changes, changes, played)
        checks.equal(f"{what}: the pinned revision", aws.parameters_kept, {PINNED: REVISION}, played)
        # The release tool has released since: a second run must not put the first revision back.
        aws.parameters_kept[PINNED], aws.changes = LATER, []
        again = Played(aws, "deploy.sh", *arguments)
        checks.equal(f"{what}, again: status", again.status, 0, again)
        checks.equal(f"{what}, again: only stacks", aws.changes, [change for change in changes if change.startswith("orders-")], again)
        checks.equal(f"{what}, again: the pinned revision", aws.parameters_kept, {PINNED: LATER}, again)
        dry_run(checks, account(), what, arguments, played)
        aws.close()
    given = aws.given
    for stack, parameter, value in (
        ("service", "StableTaskDefinition", PINNED),
        ("service", "ImageDigest", DIGESTS["worker"]),
        ("scaling", "MaxTasks", "20"),
        ("release-safety", "NotificationTopicArn", TOPIC),
        ("release-safety", "PipelineProjectName", "orders-canary"),
        ("release-safety", "WatchdogImageUri", f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/orders-canary@{DIGESTS['canary']}"),
        ("pipeline", "JournalUri", "s3://journal/orders/journal.json"),
        ("pipeline", "ReleaseToolPolicyArn", f"arn:aws:iam::{ACCOUNT}:policy/orders-release-tool-{REGION}"),
    ):
        checks.equal(f"{parameter} of {stack}", given[f"orders-{stack}"].get(parameter), value, played)
    names = {parameters.get("QueueName") for parameters in given.values()} - {None}
    checks.equal("one queue for all stacks", names, {"orders"}, played)
    stops(checks, account)


def dry_run(checks, aws, what, arguments, real):
    """It asks nothing, and says the changes that the real run made, but for what only AWS can tell."""
    played = Played(aws, "deploy.sh", "--dry-run", *arguments)
    checks.equal(f"{what}, dry run: status and calls", (played.status, played.calls), (0, []), played)
    said = [shlex.split(line)[1:] for line in played.output.splitlines() if line.startswith("  aws ")]
    asked = [call for call in real.calls if re.search("create|put-|deploy", call[0])]
    checks.equal(f"{what}, dry run: commands", [" ".join(each[:2]) for each in said], [call[0] for call in asked], played)
    for words, (call, parameters) in zip(said, asked):
        if call == "cloudformation deploy":
            values = [re.sub(rf"{ACCOUNT}|ACCOUNT", "", re.sub(rf"{REGION}", "", word)) for word in words[2:]]
            have = [re.sub(rf"{ACCOUNT}", "", re.sub(rf"{REGION}", "", word)) for word in parameters]
            have = [word for word in have if not re.match("(ReleaseToolPolicyArn|JournalUri)=", word)]
            values = [word for word in values if not re.match("(ReleaseToolPolicyArn|JournalUri)=", word)]
            checks.equal(f"{what}, dry run: {' '.join(words[:4])}", values, have, played)
    aws.close()


def stops(checks, account):
    """Where it ends, with which status, and what was changed until then."""
    for what, aws, arguments, status, changes in (
        ("no image", account(images=()), LEAST, 1, FIRST[:2]),
        ("a stack that fails", account(failing="orders-service"), WHOLE, 1, FIRST[:5]),
        ("the last stack fails", account(failing="orders-observability"), LEAST, 1, [*FIRST, "orders-scaling", "orders-observability"]),
    ):
        played = Played(aws, "deploy.sh", *arguments)
        checks.equal(f"{what}: status", played.status, status, played)
        # The parameter comes after the image was found.
        checks.equal(f"{what}: changes", aws.changes, changes, played)
        aws.close()
    refusing = account()
    refusing.ssm_get_parameter = refuse("AccessDeniedException")
    played = Played(refusing, "deploy.sh", *LEAST)
    checks.equal("a parameter that may not be read is not made", (played.status, refusing.changes), (1, FIRST[:2]), played)
    refusing.close()
    anonymous = account()
    anonymous.sts_get_caller_identity = refuse("InvalidClientTokenId")
    played = Played(anonymous, "deploy.sh", *LEAST)
    checks.equal("no credentials", (played.status, anonymous.changes), (69, []), played)
    for wrong in (
        ["--app", "Orders"],
        ["--release", "one two"],
        ["--worker-digest", "latest"],
        ["--vpc", "orders"],
        ["--subnets", "subnet-0a subnet-0b"],
        ["--max-tasks", "many"],
        ["--topic", "alarms"],
        ["--connection", CONNECTION],
        ["--nonsense"],
    ):
        played = Played(anonymous, "deploy.sh", *LEAST, *wrong)
        told = len(played.output.splitlines()) == 1 and wrong[0] in played.output
        checks.equal(f"{wrong}: status, one line that names it, no calls", (played.status, told, played.calls), (64, True, []), played)
    anonymous.close()


def refuse(code):
    def refused(_):
        raise Refused(code)

    return refused


# ---- verify-on-aws.sh -------------------------------------------------------------------------------------------------

MARKS = [
    *(f"stack orders-{name}" for name in ("queue", "service", "scaling", "release-safety", "observability")),
    "the pinned revision is the one that runs",
    "tasks run and are healthy by their own check",
    "writes of the journal are conditional",
    "autoscaling knows the stable service, scale-in not suspended",
    "target tracking's alarms are evaluated (metric math with FILL and IF)",
    "alarms with metric math are evaluated",
    "second-resolution data, dated back, can be read",
    "workers publish what they count",
    "the watchdog answers",
    "the watchdog is called by the clock",
    "the watchdog may do no more than it must",
    "the pipeline has its stages",
]
TASKS = 250


class Installed(Account):
    """An installation in which everything is as it should be, with more tasks than one call describes."""

    def __init__(self, directory):
        super().__init__(directory)
        for path in render.HERE.glob("*.yaml"):
            self.install(path.stem)
        self.parameters_kept[PINNED] = LATER
        self.objects, self.data, self.versions = {}, [], 0
        # What is the matter with it, by the faults below.
        self.running, self.sick, self.conditional, self.suspended = LATER, set(), True, False
        names = ["TargetTracking-service/orders/orders-stable-AlarmHigh", *(f"orders-alarm-{number}" for number in range(7))]
        self.states = dict.fromkeys(names, "OK")
        self.published, self.readable, self.deed, self.invocations = True, True, "nothing", 6.0
        self.allowed, self.stages = {"ecs:DescribeTaskDefinition"}, ["Source", "Test", "Image", "Canary"]
        self.program("sleep", "#!/bin/sh\n")  # nothing here takes time

    def ecs_describe_services(self, asked):
        return {"services": [{"serviceName": asked["services"][0], "taskDefinition": self.running}]}

    def ecs_list_tasks(self, _):
        return {"taskArns": [f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/orders/{number}" for number in range(TASKS)]}

    def ecs_describe_tasks(self, asked):
        if len(asked["tasks"]) > 100:
            raise Refused("InvalidParameterException", "Task identifiers can have at most 100 items")
        health = {task: "UNHEALTHY" if int(task.rsplit("/", 1)[1]) in self.sick else "HEALTHY" for task in asked["tasks"]}
        return {"tasks": [{"taskArn": task, "lastStatus": "RUNNING", "healthStatus": health[task]} for task in asked["tasks"]]}

    def s3api_head_object(self, asked):
        if (asked["Bucket"], asked["Key"]) not in self.objects:
            raise Refused("404", "Not Found")
        return {"ETag": self.objects[asked["Bucket"], asked["Key"]]}

    def s3api_put_object(self, asked):
        if asked["Bucket"] != "journal":
            raise Refused("NoSuchBucket")
        place, conditional = (asked["Bucket"], asked["Key"]), self.conditional
        there = self.objects.get(place)
        if conditional and (asked.get("IfNoneMatch") == "*" and there or "IfMatch" in asked and asked["IfMatch"] != there):
            raise Refused("PreconditionFailed")
        self.versions += 1
        self.objects[place] = f'"{self.versions:032x}"'
        return {"ETag": self.objects[place]}

    def application_autoscaling_describe_scalable_targets(self, asked):
        if asked["ResourceIds"] != ["service/orders/orders-stable"]:
            return {"ScalableTargets": []}
        return {
            "ScalableTargets": [
                {
                    "ServiceNamespace": "ecs", "ResourceId": asked["ResourceIds"][0], "ScalableDimension": "ecs:service:DesiredCount",
                    "MinCapacity": 1, "MaxCapacity": 50, "RoleARN": "role", "CreationTime": 0,
                    "SuspendedState": {"DynamicScalingInSuspended": self.suspended},
                }
            ]
        }  # fmt: skip

    def cloudwatch_describe_alarms(self, asked):
        alarms = {name: state for name, state in self.states.items() if name.startswith(asked["AlarmNamePrefix"])}
        return {"MetricAlarms": [{"AlarmName": name, "StateValue": state, "StateReason": "why"} for name, state in alarms.items()]}

    def cloudwatch_put_metric_data(self, asked):
        self.data += [datum for datum in asked["MetricData"] for _ in datum["Values"]]

    def cloudwatch_get_metric_data(self, asked):
        stat = asked["MetricDataQueries"][0]["MetricStat"]
        names = {pair["Name"]: pair["Value"] for pair in stat["Metric"]["Dimensions"]}
        times = range(int(asked["StartTime"]), int(asked["EndTime"]))
        counted = [
            datum for datum in self.data
            if {pair["Name"]: pair["Value"] for pair in datum["Dimensions"]} == names and int(datum["Timestamp"]) in times
        ]  # fmt: skip
        seen = stat["Stat"] == "SampleCount" and self.readable and counted
        return {"MetricDataResults": [{"Id": "a", "Values": [float(len(counted))] if seen else []}]}

    def cloudwatch_list_metrics(self, asked):
        return {"Metrics": [{"MetricName": asked["MetricName"], "Dimensions": asked["Dimensions"]}] if self.published else []}

    def cloudwatch_get_metric_statistics(self, asked):
        assert int(asked["EndTime"]) - int(asked["StartTime"]) == asked["Period"], "more than one point would be answered"
        return {"Datapoints": [{"Sum": self.invocations}] if self.invocations else []}

    def lambda_invoke(self, asked):
        assert json.loads(asked["Payload"]) == {"source": "schedule"}
        return {"StatusCode": 200, "Payload": json.dumps({"outcome": {"deed": self.deed}})}

    def lambda_get_function_configuration(self, asked):
        return {"FunctionName": asked["FunctionName"], "Role": f"arn:aws:iam::{ACCOUNT}:role/{asked['FunctionName']}"}

    def iam_simulate_principal_policy(self, asked):
        decide = {True: "allowed", False: "implicitDeny"}
        decisions = [{"EvalActionName": name, "EvalDecision": decide[name in self.allowed]} for name in asked["ActionNames"]]
        return {"EvaluationResults": decisions}

    def codepipeline_get_pipeline_state(self, _):
        latest = {"pipelineExecutionId": "1", "status": "Succeeded"}
        return {"stageStates": [{"stageName": name, "latestExecution": latest} for name in self.stages]}


# Each of these must take away its mark, and no other. With a third of them at a time, the marks of the others must be made.
FAULTS = {
    "stack orders-queue": lambda aws: aws.stacks.pop("orders-queue"),
    "stack orders-service": lambda aws: aws.stacks["orders-service"].update(StackStatus="UPDATE_ROLLBACK_COMPLETE"),
    "stack orders-scaling": lambda aws: aws.stacks["orders-scaling"].update(StackStatus="CREATE_IN_PROGRESS"),
    "stack orders-release-safety": lambda aws: aws.stacks["orders-release-safety"].update(StackStatus="UPDATE_FAILED"),
    "stack orders-observability": lambda aws: aws.stacks["orders-observability"].update(StackStatus="ROLLBACK_COMPLETE"),
    "the pinned revision is the one that runs": lambda aws: setattr(aws, "running", REVISION),
    # One of the last, which the first call does not tell of.
    "tasks run and are healthy by their own check": lambda aws: aws.sick.add(TASKS - 1),
    "writes of the journal are conditional": lambda aws: setattr(aws, "conditional", False),
    "autoscaling knows the stable service, scale-in not suspended": lambda aws: setattr(aws, "suspended", True),
    "target tracking's alarms are evaluated (metric math with FILL and IF)": lambda aws: aws.states.update(
        {"TargetTracking-service/orders/orders-stable-AlarmHigh": "INSUFFICIENT_DATA"}
    ),
    "alarms with metric math are evaluated": lambda aws: aws.states.update({"orders-alarm-3": "INSUFFICIENT_DATA"}),
    "second-resolution data, dated back, can be read": lambda aws: setattr(aws, "readable", False),
    "workers publish what they count": lambda aws: setattr(aws, "published", False),
    "the watchdog answers": lambda aws: setattr(aws, "deed", "paused the canary"),
    "the watchdog is called by the clock": lambda aws: setattr(aws, "invocations", None),
    "the watchdog may do no more than it must": lambda aws: aws.allowed.add("ecs:DeleteService"),
    "the pipeline has its stages": lambda aws: aws.stages.pop(),
}


def marks(played):
    """What the script says of each mark."""
    return dict((line[8:], line[:8].strip()) for line in played.output.splitlines() if line.startswith(("ok      ", "FAILED  ")))


def verifications(checks, directory):
    well = dict.fromkeys(MARKS, "ok")
    checks.equal("a fault for each mark", set(FAULTS), set(MARKS), Nothing)
    aws = Installed(Path(tempfile.mkdtemp(dir=directory)))
    # Twice: the second run finds what the first has left behind.
    for _ in range(2):
        aws.data.clear()
        played = Played(aws, "verify-on-aws.sh", "--app", "orders")
        checks.equal("verify, all is well: what the CLI refuses", played.misuses, [], played)
        checks.equal("verify, all is well", (played.status, marks(played)), (0, well), played)
    aws.close()
    # A third of the faults at a time.
    for first in range(3):
        faults = list(FAULTS)[first::3]
        aws = Installed(Path(tempfile.mkdtemp(dir=directory)))
        for fault in faults:
            FAULTS[fault](aws)
        played = Played(aws, "verify-on-aws.sh", "--app", "orders")
        checks.equal("verify, faults: what the CLI refuses", played.misuses, [], played)
        checks.equal("verify, faults", (played.status, marks(played)), (1, well | dict.fromkeys(faults, "FAILED")), played)
        aws.close()
    aws = Installed(Path(tempfile.mkdtemp(dir=directory)))
    del aws.stacks["orders-pipeline"]
    played = Played(aws, "verify-on-aws.sh", "--app", "orders")
    checks.equal("verify, no pipeline", (played.status, marks(played)), (0, dict.fromkeys(MARKS[:-1], "ok")), played)
    aws.close()
    denied(checks, directory)
    rollouts(checks, directory)
    wrong = Played(aws, "verify-on-aws.sh", "--app", "Orders")
    checks.equal("verify, a name that is none", wrong.status, 64, wrong)


def denied(checks, directory):
    """Who may ask nothing is told nothing good."""
    aws = Installed(Path(tempfile.mkdtemp(dir=directory)))
    for name in dir(aws):
        if re.match("(cloudformation|ssm|ecs|s3api|application|cloudwatch|lambda|iam|codepipeline)_", name):
            setattr(aws, name, refuse("AccessDeniedException"))
    played = Played(aws, "verify-on-aws.sh", "--app", "orders")
    checks.equal("verify, nothing is allowed", (played.status, set(marks(played).values())), (1, {"FAILED"}), played)
    aws.close()


# Promotes what is called good and rolls back the rest, or promotes everything.
TOOL = """#!/bin/sh
case "$1" in
    rollout) case "$*" in *{good}*) exit 0 ;; *) exit {verdict} ;; esac ;;
    *) echo "{{}}" ;;
esac
"""


def rollouts(checks, directory):
    images = [f"registry/orders-worker@{DIGESTS[name]}" for name in ("good", "bad")]
    for verdict, mark in ((3, "ok"), (0, "FAILED")):
        aws = Installed(Path(tempfile.mkdtemp(dir=directory)))
        aws.program("canary", TOOL.format(good=DIGESTS["good"], verdict=verdict))
        played = Played(aws, "verify-on-aws.sh", "--app", "orders", "--rollouts", *images)
        want = dict.fromkeys((*MARKS, "a good release is promoted", "autoscaling is as it was"), "ok")
        want["a bad release is rolled back"] = mark
        checks.equal(f"verify, rollouts, the bad one ends with {verdict}", marks(played), want, played)
        checks.equal("verify, rollouts: status", played.status, 0 if mark == "ok" else 1, played)
        aws.close()


class Nothing:
    output = ""


def main():
    checks, began = Checks(), time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        installations(checks, directory)
        verifications(checks, directory)
    if not checks.wrong:
        print(f"deploy.sh and verify-on-aws.sh do as they say: {checks.made} checks in {time.monotonic() - began:.0f} s")
    return 1 if checks.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
