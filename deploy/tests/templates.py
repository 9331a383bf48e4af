#!/usr/bin/env python3
"""What cfn-lint and checkov do not see in the templates. Asks nobody; needs PyYAML and policy_sentry (of .ci/tools.lock).

- Each permission names an action that exists, on a kind of resource that IAM lets it be bounded to. A resource that the action does
  not take is a permission that never holds; a star where one could be named is one too wide.
- Each parameter says what it is, is bounded, and says so when it is not met.
- Each exception to checkov is still needed, and has a reason.
- The dashboard's text is JSON, and lies on its grid.
- What one template calls by name is what another names so.
- The worker has one thread in a task of at most one vCPU, unless told otherwise.
- The pipeline's stages come in their order, and a release cannot overtake another.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "cloudformation")]
import render  # noqa: E402
from policy_sentry.querying.actions import get_action_data  # noqa: E402

TEMPLATES = sorted(render.HERE.glob("*.yaml"))
EXAMPLE = render.EXAMPLE | {
    "VpcId": "vpc-1",
    "SubnetIds": ["subnet-1"],
    "WatchdogImageUri": "111122223333.dkr.ecr.us-east-1.amazonaws.com/orders-canary@sha256:" + "0" * 64,
    "PipelineProjectName": "orders-canary",
    "NotificationTopicArn": "arn:aws:sns:us-east-1:111122223333:alarms",
    "KmsKeyArn": "arn:aws:kms:us-east-1:111122223333:key/1",
    "PayloadBucketName": "orders-payloads",
    "TaskProtection": "true",
    "WorkerRepository": "orders-worker",
    "CanaryRepository": "orders-canary",
    "ReleaseToolPolicyArn": "arn:aws:iam::111122223333:policy/orders-release-tool-us-east-1",
    "JournalUri": "s3://journal/orders/journal.json",
    "ConnectionArn": "arn:aws:codeconnections:us-east-1:111122223333:connection/1",
    "RepositoryId": "owner/orders",
    "ApprovalTopicArn": "arn:aws:sns:us-east-1:111122223333:approvals",
    "Approval": "true",
    "LogGroupName": "/ecs/orders-worker",
}
# Resource-level permissions in the data of policy_sentry lack these; AWS's Service Authorization Reference has them.
NO_RESOURCE_BUT_CONDITION = {"ecs:ListTasks"}


class Resolved(render.Template):
    """A template in which every GetAtt of an ARN has a plausible one."""

    ARNS = {
        "AWS::S3::Bucket": "arn:aws:s3:::{name}",
        "AWS::SQS::Queue": "arn:aws:sqs:us-east-1:111122223333:{name}",
        "AWS::CodeBuild::Project": "arn:aws:codebuild:us-east-1:111122223333:project/{name}",
        "AWS::IAM::Role": "arn:aws:iam::111122223333:role/{name}",
        "AWS::Lambda::Function": "arn:aws:lambda:us-east-1:111122223333:function:{name}",
        "AWS::Events::Rule": "arn:aws:events:us-east-1:111122223333:rule/{name}",
    }
    NAMES = ("BucketName", "QueueName", "Name", "RoleName", "FunctionName")

    def attribute(self, path):
        resource = self.source["Resources"][path.split(".", 1)[0]]
        name = next(self.resolve(resource["Properties"][key]) for key in self.NAMES if key in resource["Properties"])
        return self.ARNS[resource["Type"]].format(name=name)

    def reference(self, name):
        return self.attribute(name.removesuffix(".Arn") + ".Arn") if name.endswith(".Arn") else super().reference(name)


def listed(value):
    return value if isinstance(value, list) else [value]


def policies(template):
    """Name and document of each identity policy of a template."""
    for name, resource in template.source["Resources"].items():
        if resource["Type"] == "AWS::IAM::Role":
            for policy in template.properties(name).get("Policies", []):
                yield name, policy["PolicyDocument"]
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            yield name, template.properties(name)["PolicyDocument"]


def kinds(action):
    """Kinds of resources, as ARN patterns, that IAM lets `action` be bounded to; None when there is no such action."""
    service, name = action.split(":")
    rows = (get_action_data(service, name) or {}).get(service)
    if not rows:
        return None
    formats = {row["resource_arn_format"] for row in rows} - {"*"}
    return {re.compile(re.sub(r"\\\$\\\{[^}]+\\\}", ".+", re.escape(text))) for text in formats}


def permission_faults(template, name):
    for role, document in policies(template):
        for statement in document["Statement"]:
            where = f"{name}: {role}: {statement['Sid']}"
            for action in listed(statement["Action"]):
                patterns = kinds(action)
                if patterns is None:
                    yield f"{where}: there is no action {action}"
                    continue
                for resource in listed(statement["Resource"]):
                    if resource == "*":
                        if patterns and action not in NO_RESOURCE_BUT_CONDITION:
                            yield f"{where}: {action} on *, though it could be bounded to a resource"
                    elif not any(pattern.fullmatch(resource) for pattern in patterns):
                        yield f"{where}: {action} does not take the resource {resource}"


def parameter_faults(template, name):
    for key, parameter in template.source["Parameters"].items():
        where = f"{name}: parameter {key}"
        kind = parameter["Type"]
        if not parameter.get("Description"):
            yield f"{where} has no description"
        bounded = "AllowedPattern" in parameter or "AllowedValues" in parameter or {"MinValue", "MaxValue"} <= parameter.keys()
        if kind in ("String", "Number") and not bounded:
            yield f"{where} is not bounded"
        if "AllowedValues" not in parameter and kind in ("String", "Number") and "ConstraintDescription" not in parameter:
            yield f"{where} does not say what it takes"
        pattern, default = parameter.get("AllowedPattern"), parameter.get("Default")
        if pattern and default is not None and not re.search(pattern, default):
            yield f"{where}: its default {default!r} does not match {pattern}"


def output_faults(template, name):
    for key, output in template.source["Outputs"].items():
        if not output.get("Description") or "Export" not in output:
            yield f"{name}: output {key} wants a description and an export"


def exception_faults():
    """Exceptions without a reason, and such that checkov does not need any more."""
    with tempfile.TemporaryDirectory() as directory:
        exceptions = set()
        for path in TEMPLATES:
            text = path.read_text()
            for name, resource in render.load(path.name)["Resources"].items():
                for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", []):
                    exceptions.add((skip["id"], f"{resource['Type']}.{name}"))
                    if len(skip.get("comment", "")) < 20:
                        yield f"{path.name}: {name}: the exception {skip['id']} has no reason"
            Path(directory, path.name).write_text(re.sub(r"(?m)^      checkov:$", "      unheeded:", text))
        command = [str(Path(sys.executable).with_name("checkov")), "--skip-download", "--framework", "cloudformation"]
        done = subprocess.run([*command, "--output", "json", "--directory", directory], capture_output=True, text=True)
        failed = {(check["check_id"], check["resource"]) for check in json.loads(done.stdout)["results"]["failed_checks"]}
    yield from (f"the exception of {resource} to {check} is not needed" for check, resource in sorted(exceptions - failed))


def dashboard_faults(template):
    widgets = json.loads(template.properties("Dashboard")["DashboardBody"])["widgets"]
    taken = set()
    for widget in widgets:
        title = widget["properties"].get("title", "text")
        cells = {
            (x, y)
            for x in range(widget["x"], widget["x"] + widget["width"])
            for y in range(widget["y"], widget["y"] + widget["height"])
        }
        if widget["x"] + widget["width"] > 24 or cells & taken:
            yield f"observability.yaml: the widget {title!r} lies outside the grid or over another"
        taken |= cells


def series_faults(template):
    """Metrics that the dashboard shows, and docs/cloudwatch.md does not know under that dimension."""
    documented, of_the_tool = {}, False
    for line in (render.DEPLOY.parent / "docs/cloudwatch.md").read_text().splitlines():
        of_the_tool = line == "## The rollout itself" or (of_the_tool and not line.startswith("## "))
        if line.startswith("| `"):
            for name in re.findall(r"`(\w+)`", line.split("|")[1]):
                documented[name] = "App" if of_the_tool else "Service"
    for widget in json.loads(template.properties("Dashboard")["DashboardBody"])["widgets"]:
        for metric in widget["properties"].get("metrics", []):
            if metric[0] == "QueueWorker" and documented.get(metric[1]) != metric[2]:
                yield f"observability.yaml shows {metric[1]} by {metric[2]}, which docs/cloudwatch.md does not list"


def name_faults(templates):
    """Alarms, functions and projects that a template calls by a name that another template makes."""
    safety, pipeline = templates["release-safety.yaml"], templates["pipeline.yaml"]
    alarms = {
        template.properties(name)["AlarmName"]
        for template in templates.values()
        for name, resource in template.source["Resources"].items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }
    shown = re.findall(r":alarm:([a-z0-9-]+)", templates["observability.yaml"].properties("Dashboard")["DashboardBody"])
    yield from (f"observability.yaml shows the alarm {name}, which no template makes" for name in sorted(set(shown) - alarms))
    for name, resource in safety.source["Resources"].items():
        if resource["Type"] == "AWS::Lambda::Permission":
            source = safety.properties(name).get("SourceArn", "")
            if ":alarm:" in source and source.rsplit(":", 1)[1] not in alarms:
                yield f"release-safety.yaml: {name} is for an alarm that is not there: {source}"
    if pipeline.properties("CanaryProject")["Name"] != EXAMPLE["PipelineProjectName"]:
        yield "pipeline.yaml: the project of the canary stage is not called APP-canary"
    passed = templates["release-safety.yaml"].properties("ReleaseToolPolicy")["PolicyDocument"]["Statement"]
    roles = {arn.rsplit("/", 1)[1] for statement in passed if statement["Sid"] == "RolesOfRevisions" for arn in statement["Resource"]}
    made = {templates["service.yaml"].properties(role)["RoleName"] for role in ("TaskRole", "ExecutionRole")}
    if roles != made:
        yield f"the release tool may pass {sorted(roles)}, but the tasks' roles are {sorted(made)}"


def thread_faults():
    """Threads of the worker by the size of the task, and as somebody asks."""
    sizes = render.load("service.yaml")["Parameters"]["Cpu"]["AllowedValues"]
    by_size = {(cpu, "auto"): "1" if cpu <= 1024 else None for cpu in sizes}
    for (cpu, threads), expected in (by_size | {(256, "2"): "2", (4096, "4"): "4"}).items():
        template = Resolved("service.yaml", EXAMPLE | {"Cpu": cpu, "Threads": threads})
        environment = template.properties("TaskDefinition")["ContainerDefinitions"][0]["Environment"]
        have = {variable["Name"]: variable["Value"] for variable in environment}.get("TOKIO_WORKER_THREADS")
        if have != expected:
            yield f"service.yaml: with Cpu {cpu} and Threads {threads}, TOKIO_WORKER_THREADS is {have}; expected {expected}"


def runbook_faults(template):
    """Every alarm that calls somebody names the heading of the runbook that its table of alarms names."""
    runbook = (render.DEPLOY.parent / "docs/runbook.md").read_text(encoding="utf-8")
    headings = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", runbook, re.MULTILINE)}
    rows = dict(re.findall(r"^\| `APP-([a-z-]+)` \| (?:page|ticket|info) \| \[[^\]]+\]\(#([a-z0-9-]+)\) \|$", runbook, re.MULTILINE))
    for logical, resource in template.source["Resources"].items():
        if resource["Type"] == "AWS::CloudWatch::Alarm":
            properties = template.properties(logical)
            name = properties["AlarmName"].removeprefix(f"{EXAMPLE['App']}-")
            said = re.search(r"docs/runbook\.md#([a-z0-9-]+)$", properties["AlarmDescription"])
            if said is None or said[1] not in headings:
                yield f"release-safety.yaml: the description of {name} does not end in a heading of docs/runbook.md"
            elif rows.pop(name, None) != said[1]:
                yield f"docs/runbook.md: its table does not lead from `APP-{name}` to #{said[1]}"
    yield from (f"docs/runbook.md: there is no alarm `APP-{name}`" for name in rows)


def pipeline_faults(template):
    pipeline = template.properties("Pipeline")
    stages = [stage["Name"] for stage in pipeline["Stages"]]
    if stages != ["Source", "Test", "Image", "Approval", "Canary"]:
        yield f"pipeline.yaml: the stages are {stages}"
    if (pipeline["PipelineType"], pipeline["ExecutionMode"]) != ("V2", "QUEUED"):
        yield "pipeline.yaml: one release at a time is the mode QUEUED of type V2"
    made, variables = set(), {}
    for action in (action for stage in pipeline["Stages"] for action in sorted(stage["Actions"], key=lambda a: a.get("RunOrder", 1))):
        for artifact in action.get("InputArtifacts", []):
            if artifact["Name"] not in made:
                yield f"pipeline.yaml: {action['Name']} wants the artifact {artifact['Name']} before it is made"
        for namespace, variable in re.findall(r"#\{(\w+)\.(\w+)\}", json.dumps(action["Configuration"])):
            if variable not in variables.get(namespace, ()):
                yield f"pipeline.yaml: {action['Name']} wants the variable {namespace}.{variable}, which is not exported before it"
        made |= {artifact["Name"] for artifact in action.get("OutputArtifacts", [])}
        if "ProjectName" in action["Configuration"] and "Namespace" in action:
            variables[action["Namespace"]] = exported_by(template, action["Configuration"]["ProjectName"])


def exported_by(template, project):
    """The variables that the buildspec of a project exports. A project is named here by its logical name or its own."""
    for name, resource in template.source["Resources"].items():
        if resource["Type"] == "AWS::CodeBuild::Project" and project in (name, template.properties(name)["Name"]):
            path = render.DEPLOY.parent / template.properties(name)["Source"]["BuildSpec"]
            return render.yaml.safe_load(path.read_text()).get("env", {}).get("exported-variables", [])
    return []


def main():
    templates = {path.name: Resolved(path.name, EXAMPLE) for path in TEMPLATES}
    faults = []
    for name, template in templates.items():
        for find in (permission_faults, parameter_faults, output_faults):
            faults += find(template, name)
    faults += dashboard_faults(templates["observability.yaml"])
    faults += series_faults(templates["observability.yaml"])
    faults += name_faults(templates)
    faults += thread_faults()
    faults += runbook_faults(templates["release-safety.yaml"])
    faults += pipeline_faults(templates["pipeline.yaml"])
    faults += exception_faults()
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        permissions = sum(len(document["Statement"]) for template in templates.values() for _, document in policies(template))
        print(f"{len(templates)} templates, {permissions} statements of policies: as they should be")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
