#!/usr/bin/env python3
"""Deploys the templates on ministack and LocalStack as far as each can, and asks the services what became of them.

    emulators.py ministack URL     deploys, asks, updates, and simulates each role's permissions
    emulators.py localstack URL    deploys what LocalStack knows, and asks

Neither knows every resource type, and ministack reports CREATE_COMPLETE for resources that it did not make: so what they cannot do
is taken out beforehand, with all that refers to it, and named; and afterwards each service is asked, not the stack.
Run by deploy/tests/emulators, which builds the environment and starts ministack.
"""

import contextlib
import fnmatch
import json
import os
import sys
import time
from pathlib import Path

import boto3
import botocore.config

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "cloudformation")]
import calls  # noqa: E402
import render  # noqa: E402

ACCOUNT = calls.ACCOUNT
PINNED = "/orders/canary/stable-task-definition"
DIGEST = "sha256:" + "0" * 64
render.PSEUDO["AWS::AccountId"] = ACCOUNT

# What an emulator cannot make, with the reason. Metric math and the rest stay checked by cfn-lint against CloudFormation's schemas.
CANNOT = {
    "ministack": {
        "types": {
            "AWS::ApplicationAutoScaling::ScalableTarget",
            "AWS::ApplicationAutoScaling::ScalingPolicy",
            "AWS::CodePipeline::Pipeline",
            "AWS::Logs::QueryDefinition",
        },
        "metric_math": False,
    },
    "localstack": {
        "types": {
            "AWS::ApplicationAutoScaling::ScalableTarget",
            "AWS::ApplicationAutoScaling::ScalingPolicy",
            "AWS::CloudWatch::Dashboard",
            "AWS::CodeBuild::Project",
            "AWS::CodePipeline::Pipeline",
            "AWS::Lambda::Function",
            "AWS::Logs::MetricFilter",
            "AWS::Logs::QueryDefinition",
        },
        "metric_math": True,
    },
}


def long_form(value):
    """The template as JSON: short forms of functions written out."""
    if isinstance(value, dict):
        return {key: long_form(item) for key, item in value.items()}
    if isinstance(value, list):
        return [long_form(item) for item in value]
    if not isinstance(value, render.Tag):
        return value
    argument = long_form(value.value)
    if value.name in ("Ref", "Condition"):
        return {value.name: argument}
    if value.name == "GetAtt":
        return {"Fn::GetAtt": argument.split(".", 1)}
    return {f"Fn::{value.name}": argument}


def mentions(value, name):
    """Whether a part of a template refers to the resource `name`."""
    if isinstance(value, dict):
        if value.get("Ref") == name or (value.get("Fn::GetAtt") or [None])[0] == name:
            return True
        return any(mentions(item, name) for item in value.values())
    if isinstance(value, list):
        return any(mentions(item, name) for item in value)
    return isinstance(value, str) and ("${" + name + "}" in value or "${" + name + "." in value)


def without(value, name):
    """A list or mapping without the entries that refer to `name`; used inside policies, where the rest is still wanted."""
    if isinstance(value, list):
        return [without(item, name) for item in value if not (isinstance(item, (dict, str)) and refers_directly(item, name))]
    if isinstance(value, dict):
        return {key: without(item, name) for key, item in value.items()}
    return value


def refers_directly(item, name):
    return item == {"Ref": name} or (isinstance(item, dict) and (item.get("Fn::GetAtt") or [None])[0] == name)


def reduced(template, cannot):
    """The template without what the emulator cannot make, and the names of what was taken out."""
    resources, out = template["Resources"], []
    todo = [name for name, resource in resources.items() if not possible(resource, cannot)]
    while todo:
        name = todo.pop()
        if name not in resources:
            continue
        del resources[name]
        out.append(name)
        for other, resource in list(resources.items()):
            # An alarm without its actions, or a role without one ARN in a list, is still worth deploying.
            resources[other] = without(resource, name)
            if mentions(resources[other], name):
                todo.append(other)
    for key, output in list(template.get("Outputs", {}).items()):
        if any(mentions(output, name) for name in out):
            del template["Outputs"][key]
    return template, out


def possible(resource, cannot):
    if resource["Type"] in cannot["types"]:
        return False
    return cannot["metric_math"] or resource["Type"] != "AWS::CloudWatch::Alarm" or "Metrics" not in resource["Properties"]


class Failures(list):
    """What is not as it should be; each check says what it looked at."""

    def __init__(self):
        super().__init__()
        self.checked = 0

    def expect(self, what, have, want):
        self.checked += 1
        if have != want:
            self.append(f"{what}: {have!r}; expected {want!r}")


class Emulator:
    def __init__(self, name, endpoint):
        self.name, self.endpoint, self.cannot = name, endpoint, CANNOT[name]
        self.failures = Failures()

    def client(self, service):
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=calls.REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=botocore.config.Config(retries={"total_max_attempts": 2}, read_timeout=60, s3={"addressing_style": "path"}),
        )

    def deploy(self, name, parameters, update=False):
        """Creates or updates the stack, waits for its end, and says what was left out."""
        template, out = reduced(long_form(render.load(f"{name}.yaml")), self.cannot)
        cloudformation = self.client("cloudformation")
        act = cloudformation.update_stack if update else cloudformation.create_stack
        act(
            StackName=f"{parameters['App']}-{name}",
            TemplateBody=json.dumps(template),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        )
        deadline = time.monotonic() + 60
        while True:
            stack = cloudformation.describe_stacks(StackName=f"{parameters['App']}-{name}")["Stacks"][0]
            if not stack["StackStatus"].endswith("_IN_PROGRESS"):
                break
            if time.monotonic() > deadline:
                sys.exit(f"{self.name}: the stack {parameters['App']}-{name} is still {stack['StackStatus']} after 60 s")
            time.sleep(0.2)
        wanted = "UPDATE_COMPLETE" if update else "CREATE_COMPLETE"
        reason = f" ({stack['StackStatusReason']})" if stack.get("StackStatusReason") else ""
        self.failures.expect(f"stack {parameters['App']}-{name}", stack["StackStatus"] + reason, wanted)
        left = f"; left out: {', '.join(sorted(out))}" if out else ""
        print(f"{self.name}: {name}: {len(template['Resources'])} resources{left}")
        return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}

    # ---- What the services say ---------------------------------------------------------------------------------------

    def check_queues(self, app="orders"):
        sqs, expect = self.client("sqs"), self.failures.expect
        retention = {app: "345600", f"{app}-handover": "1209600", f"{app}-dlq": "1209600"}
        arn_of = {name: calls.arn("sqs", name) for name in retention}
        for name, seconds in retention.items():
            url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
            have = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            expect(f"{name} MessageRetentionPeriod", have["MessageRetentionPeriod"], seconds)
            expect(f"{name} SqsManagedSseEnabled", have.get("SqsManagedSseEnabled"), "true")
            statement = json.loads(have["Policy"])["Statement"][0]
            expect(f"{name} policy", (statement["Effect"], statement["Condition"]), ("Deny", {"Bool": {"aws:SecureTransport": "false"}}))
            if name != f"{app}-dlq":
                redrive = json.loads(have["RedrivePolicy"])
                expect(f"{name} redrive", (redrive["deadLetterTargetArn"], int(redrive["maxReceiveCount"])), (arn_of[f"{app}-dlq"], 5))
                expect(f"{name} long poll", have["ReceiveMessageWaitTimeSeconds"], "20")
            else:
                allow = json.loads(have["RedriveAllowPolicy"])
                expect(f"{name} sources", sorted(allow["sourceQueueArns"]), [arn_of[app], arn_of[f"{app}-handover"]])

    def check_service(self, outputs):
        ecs, expect = self.client("ecs"), self.failures.expect
        services = ecs.describe_services(cluster="orders", services=["orders-stable", "orders-canary"])["services"]
        by_name = {service["serviceName"]: service for service in services}
        expect("services", sorted(by_name), ["orders-canary", "orders-stable"])
        first = outputs["TaskDefinitionArn"]
        for name, count in (("orders-stable", 1), ("orders-canary", 0)):
            service = by_name[name]
            expect(f"{name} desiredCount", service["desiredCount"], count)
            expect(f"{name} taskDefinition", service["taskDefinition"], first)
            network = service["networkConfiguration"]["awsvpcConfiguration"]
            expect(f"{name} public address", network.get("assignPublicIp"), "DISABLED")
            breaker = service["deploymentConfiguration"]["deploymentCircuitBreaker"]
            expect(f"{name} circuit breaker", breaker, {"enable": True, "rollback": name == "orders-stable"})
        self.check_task_definition(ecs, first)

    def check_task_definition(self, ecs, arn):
        """CloudFormation's task definition is the one of deploy/task-definitions, but for the account."""
        have = ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
        want = render.task_definition(render.Template("service.yaml", render.EXAMPLE))
        # What ministack's CloudFormation does not hand on to its ECS.
        lost = {"tags", "runtimePlatform", "linuxParameters", "healthCheck"}
        for key in want.keys() - lost - {"containerDefinitions"}:
            self.failures.expect(f"task definition {key}", normal(have.get(key)), normal(want[key]))
        for key, value in want["containerDefinitions"][0].items():
            if key in lost:
                continue
            self.failures.expect(f"container {key}", normal(have["containerDefinitions"][0].get(key)), normal(value))

    def check_update_keeps_release(self, parameters):
        """The release tool promotes; a later stack update must not undo it, not even one that makes a new task definition."""
        ecs, ssm = self.client("ecs"), self.client("ssm")
        revision = render.task_definition(render.Template("service.yaml", render.EXAMPLE))
        promoted = ecs.register_task_definition(**revision)["taskDefinition"]["taskDefinitionArn"]
        ecs.update_service(cluster="orders", service="orders-stable", taskDefinition=promoted, desiredCount=3)
        ssm.put_parameter(Name=PINNED, Value=promoted, Type="String", Overwrite=True)
        changed = {"LogRetention": "90", "Cpu": "512", "Memory": "1024", "PayloadBucketName": "orders-payloads", "TaskProtection": "true"}
        self.deploy("service", parameters | changed, update=True)
        service = ecs.describe_services(cluster="orders", services=["orders-stable"])["services"][0]
        self.failures.expect("after a stack update, stable's revision", service["taskDefinition"], promoted)
        self.failures.expect("after a stack update, stable's tasks", service["desiredCount"], 3)
        group = self.client("logs").describe_log_groups(logGroupNamePrefix="/ecs/orders-worker")["logGroups"][0]
        self.failures.expect("after a stack update, days of logs", group.get("retentionInDays"), 90)

    def check_safety(self, app="orders"):
        expect, s3 = self.failures.expect, self.client("s3")
        bucket = f"{app}-canary-journal-{ACCOUNT}-{calls.REGION}"
        expect("journal versioning", s3.get_bucket_versioning(Bucket=bucket).get("Status"), "Enabled")
        block = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
        expect("journal public access", all(block.values()), True)
        alarms = self.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{app}-")["MetricAlarms"]
        have = {alarm["AlarmName"]: alarm for alarm in alarms}
        for name in ("oldest-message", "handover-waiting"):
            expect(f"alarm {app}-{name}", have.get(f"{app}-{name}", {}).get("Threshold"), 300.0)
        if self.cannot["metric_math"]:
            for name in ("canary-failing", "stable-failing", "stable-idle", "dead-letters"):
                metrics = have.get(f"{app}-{name}", {}).get("Metrics", [])
                expect(f"alarm {app}-{name} expressions", sum("Expression" in metric for metric in metrics), 1)

    def check_watchdog(self):
        expect = self.failures.expect
        function = self.client("lambda").get_function_configuration(FunctionName="orders-watchdog")
        expect("watchdog package", function.get("PackageType"), "Image")
        expect("watchdog timeout", function["Timeout"], 60)
        variables = function["Environment"]["Variables"]
        expect("watchdog journal", variables["CANARY_JOURNAL"], f"s3://orders-canary-journal-{ACCOUNT}-{calls.REGION}/orders/journal.json")
        events = self.client("events")
        for rule, field, want in (
            ("orders-watchdog-heartbeat", "ScheduleExpression", "rate(2 minutes)"),
            ("orders-watchdog-build-stopped", "State", "ENABLED"),
            ("orders-watchdog-deployment-failed", "State", "ENABLED"),
        ):
            expect(f"rule {rule}", events.describe_rule(Name=rule).get(field), want)
            targets = events.list_targets_by_rule(Rule=rule)["Targets"]
            expect(f"rule {rule} calls", [target["Arn"] for target in targets], [function["FunctionArn"]])
        policy = json.loads(self.client("lambda").get_policy(FunctionName="orders-watchdog")["Policy"])
        callers = {statement["Principal"]["Service"] for statement in policy["Statement"]}
        expect("who may call the watchdog", "events.amazonaws.com" in callers, True)

    def check_pipeline(self):
        expect = self.failures.expect
        names = ["test", "image-arm64", "image-amd64", "image-index", "canary"]
        projects = self.client("codebuild").batch_get_projects(names=[f"orders-{name}" for name in names])["projects"]
        timeouts = {project["name"]: project["timeoutInMinutes"] for project in projects}
        expect("projects", sorted(timeouts), sorted(f"orders-{name}" for name in names))
        expect("time of the canary stage", timeouts.get("orders-canary"), 240)

    def check_observability(self):
        expect = self.failures.expect
        body = json.loads(self.client("cloudwatch").get_dashboard(DashboardName="orders")["DashboardBody"])
        expect("dashboard widgets", len(body["widgets"]), 18)
        expect("unresolved in the dashboard", "${" in json.dumps(body), False)
        filters = self.client("logs").describe_metric_filters(logGroupName="/ecs/orders-worker")["metricFilters"]
        expect("metric filters", sorted(item["filterName"] for item in filters), ["errors", "panics"])

    # ---- Permissions ----------------------------------------------------------------------------------------------------

    def documents(self, template, resource, wanted):
        """The policies of a role or managed policy, as the emulator keeps them after the deployment."""
        iam = self.client("iam")
        rendered = render.Template(f"{template}.yaml", wanted)
        properties = rendered.source["Resources"][resource]["Properties"]
        if "ManagedPolicyName" in properties:
            arn = f"arn:aws:iam::{ACCOUNT}:policy/{rendered.resolve(properties['ManagedPolicyName'])}"
            version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            return [iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]]
        name = rendered.resolve(properties["RoleName"])
        policies = iam.list_role_policies(RoleName=name)["PolicyNames"]
        return [iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"] for policy in policies]

    def simulate(self, documents, action, resource, context):
        """ministack's answer. It knows no values for condition keys, so statements are reduced to those whose condition holds."""
        answer = self.client("iam").simulate_custom_policy(
            PolicyInputList=[json.dumps(under_conditions(document, context)) for document in documents],
            ActionNames=[action],
            ResourceArns=[resource],
        )
        return answer["EvaluationResults"][0]["EvalDecision"] == "allowed"

    def check_permissions(self, parameters):
        for name, (template, allowed, denied) in calls.ROLES.items():
            documents = self.documents(template, name, parameters[template])
            if not documents:
                self.failures.append(f"{name} has no policy")
            own = {(action, resource) for action, resources, _ in allowed for resource in resources}
            never = [row for row in calls.NEVER if not any((row[0], resource) in own for resource in row[1])]
            for rows, want in ((allowed, True), (denied + never, False)):
                for action, resources, context in rows:
                    for resource in resources:
                        have = self.simulate(documents, action, resource, context)
                        self.failures.expect(f"{name} may {action} on {resource} {context or ''}".rstrip(), have, want)


def under_conditions(document, context):
    """The policy with the statements whose conditions hold, without them. A key that is not given fails its condition."""
    document = json.loads(document) if isinstance(document, str) else document
    kept = []
    for statement in document["Statement"]:
        held = [
            holds(operator, context.get(key), value)
            for operator, keys in statement.get("Condition", {}).items()
            for key, value in keys.items()
        ]
        if all(held):
            kept.append({key: value for key, value in statement.items() if key != "Condition"})
    return {"Version": document["Version"], "Statement": kept}


def holds(operator, have, want):
    if operator in ("StringEquals", "ArnEquals"):
        return have == want
    if operator in ("StringLike", "ArnLike"):
        return have is not None and fnmatch.fnmatchcase(have, want)
    if operator == "ForAllValues:StringEquals":
        return have is None or have == want
    raise ValueError(f"the condition {operator} is not known here")


def normal(value):
    """What an API adds to or changes of what it was given does not matter: empty fields, the order of variables; and ministack
    keeps numbers of a template as text, and the first letters of some fields as CloudFormation spells them."""
    if isinstance(value, dict):
        return {key[0].lower() + key[1:]: normal(item) for key, item in value.items() if item not in (None, [], {})}
    if isinstance(value, list):
        return sorted((normal(item) for item in value), key=json.dumps) if value and isinstance(value[0], dict) else value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def parameters_of(emulator):
    ec2 = emulator.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{net}.0/24")["Subnet"]["SubnetId"] for net in (0, 1)]
    queues = {"QueueName": "orders", "DeadLetterQueueName": "orders-dlq", "HandoverQueueName": "orders-handover"}
    registry = f"{ACCOUNT}.dkr.ecr.{calls.REGION}.amazonaws.com"
    service = {key: render.EXAMPLE[key] for key in ("App", "Release", "ImageRepository", "ImageDigest", *queues)}
    return {
        "queue": {"App": "orders"},
        "service": service | {"StableTaskDefinition": PINNED, "VpcId": vpc, "SubnetIds": ",".join(subnets)},
        "release-safety": {
            "App": "orders",
            "ClusterName": "orders",
            "WatchdogImageUri": f"{registry}/orders-canary@{DIGEST}",
            "PipelineProjectName": "orders-canary",
            **queues,
        },
        "pipeline": {
            "App": "orders",
            "WorkerRepository": "orders-worker",
            "CanaryRepository": "orders-canary",
            "ReleaseToolPolicyArn": f"arn:aws:iam::{ACCOUNT}:policy/orders-release-tool-{calls.REGION}",
            "JournalUri": f"s3://orders-canary-journal-{ACCOUNT}-{calls.REGION}/orders/journal.json",
            "SourceBucket": "orders-source",
        },
        "observability": {"App": "orders", "ClusterName": "orders", "LogGroupName": "/ecs/orders-worker", **queues},
    }


def on_ministack(emulator):
    parameters = parameters_of(emulator)
    emulator.client("ssm").put_parameter(Name=PINNED, Value="none", Type="String", Overwrite=True)
    emulator.deploy("queue", parameters["queue"])
    emulator.check_queues()
    outputs = emulator.deploy("service", parameters["service"])
    emulator.check_service(outputs)
    emulator.check_update_keeps_release(parameters["service"])
    emulator.deploy("release-safety", parameters["release-safety"])
    emulator.check_safety()
    emulator.check_watchdog()
    emulator.deploy("pipeline", parameters["pipeline"])
    emulator.check_pipeline()
    emulator.deploy("observability", parameters["observability"])
    emulator.check_observability()
    emulator.check_permissions(parameters)


def on_localstack(emulator):
    """No ECS there: the queues, the journal's bucket and the alarms with metric math. The instance has other users: names of its
    own, and everything is taken away again."""
    app = f"templates-{os.getpid()}"
    parameters = parameters_of(emulator)
    queues = {"QueueName": app, "DeadLetterQueueName": f"{app}-dlq", "HandoverQueueName": f"{app}-handover"}
    safety = parameters["release-safety"] | {"App": app} | queues
    try:
        emulator.deploy("queue", {"App": app})
        emulator.check_queues(app)
        emulator.deploy("release-safety", safety)
        emulator.check_safety(app)
    finally:
        take_away(emulator, app)


def take_away(emulator, app):
    """Deletes the stacks, and what they retain."""
    cloudformation, sqs, s3 = (emulator.client(service) for service in ("cloudformation", "sqs", "s3"))
    for name in ("release-safety", "queue"):
        cloudformation.delete_stack(StackName=f"{app}-{name}")
    for url in sqs.list_queues(QueueNamePrefix=app).get("QueueUrls", []):
        with contextlib.suppress(sqs.exceptions.QueueDoesNotExist):  # the stack's deletion goes on meanwhile
            sqs.delete_queue(QueueUrl=url)
    for bucket in s3.list_buckets()["Buckets"]:
        if bucket["Name"].startswith(f"{app}-"):
            with contextlib.suppress(s3.exceptions.NoSuchBucket):
                s3.delete_bucket(Bucket=bucket["Name"])


def main(arguments):
    if len(arguments) != 2 or arguments[0] not in CANNOT:
        print(f"usage: emulators.py {'|'.join(CANNOT)} URL", file=sys.stderr)
        return 64
    unlisted = calls.unlisted_calls()
    emulator = Emulator(*arguments)
    if unlisted:
        emulator.failures.append(f"the source calls {', '.join(unlisted)}, which deploy/tests/calls.py does not list")
    {"ministack": on_ministack, "localstack": on_localstack}[emulator.name](emulator)
    for failure in emulator.failures:
        print(f"{emulator.name}: {failure}", file=sys.stderr)
    print(f"{emulator.name}: {emulator.failures.checked - len(emulator.failures)} passed, {len(emulator.failures)} failed")
    return 1 if emulator.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
