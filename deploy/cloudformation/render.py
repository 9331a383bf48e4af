#!/usr/bin/env python3
"""Makes the files of deploy/task-definitions and deploy/scaling from the templates, so that there is one source.

    render.py          writes them
    render.py --check  compares them, and each with what AWS's API takes (botocore's model); exit 1 when one differs

They are for teams who do not use CloudFormation: the input of RegisterTaskDefinition, RegisterScalableTarget, PutScalingPolicy
and PutMetricAlarm, for an application `orders` of account 111122223333 in us-east-1. `--parameter KEY=VALUE` makes them for
another. Needs PyYAML, and botocore for --check: both come with .ci/tools.lock.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
DEPLOY = HERE.parent
PSEUDO = {
    "AWS::AccountId": "111122223333",
    "AWS::Region": "us-east-1",
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}
EXAMPLE = {
    "App": "orders",
    "StableTaskDefinition": "none",
    "Release": "1.0.0",
    "ImageRepository": "orders-worker",
    "ImageDigest": "sha256:" + "0" * 64,
    "QueueName": "orders",
    "DeadLetterQueueName": "orders-dlq",
    "HandoverQueueName": "orders-handover",
    "ClusterName": "orders",
    "MaxTasks": 50,
}
NOTHING = object()


class Tag:
    """A short form of an intrinsic function, as it stands in the YAML."""

    def __init__(self, name, value):
        self.name, self.value = name, value


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms."""


def construct(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        return Tag(suffix, loader.construct_scalar(node))
    if isinstance(node, yaml.SequenceNode):
        return Tag(suffix, loader.construct_sequence(node, deep=True))
    return Tag(suffix, loader.construct_mapping(node, deep=True))


Loader.add_multi_constructor("!", construct)


def load(name):
    """The template `name`, its short forms as `Tag`."""
    return yaml.load((HERE / name).read_text(), Loader)  # noqa: S506: a SafeLoader


class Template:
    """A template with values for its parameters: what CloudFormation would make of a resource's properties."""

    def __init__(self, name, parameters):
        self.source = load(name)
        declared = self.source["Parameters"]
        self.values = {key: declared[key]["Default"] for key in declared if "Default" in declared[key]}
        self.values |= {key: value for key, value in parameters.items() if key in declared} | PSEUDO
        for key in declared:
            if declared[key]["Type"] == "Number" and key in self.values:
                self.values[key] = int(self.values[key])

    def condition(self, name):
        return self.resolve(self.source["Conditions"][name])

    def attribute(self, path):
        resource, attribute = path.split(".", 1)
        properties = self.source["Resources"][resource]["Properties"]
        if attribute == "Arn" and "RoleName" in properties:
            return f"arn:aws:iam::{PSEUDO['AWS::AccountId']}:role/{self.resolve(properties['RoleName'])}"
        raise KeyError(f"GetAtt {path} is not known here")

    def reference(self, name):
        if name == "AWS::NoValue":
            return NOTHING
        if name in self.values:
            return self.values[name]
        properties = self.source["Resources"][name]["Properties"]
        for key in ("LogGroupName", "PolicyName", "ClusterName"):
            if key in properties:
                return self.resolve(properties[key])
        return name

    def resolve(self, value):
        """The value with every function in it carried out; NOTHING where it is to be left out."""
        if isinstance(value, dict):
            pairs = ((key, self.resolve(item)) for key, item in value.items())
            return {key: item for key, item in pairs if item is not NOTHING}
        if isinstance(value, list):
            return [item for item in map(self.resolve, value) if item is not NOTHING]
        if not isinstance(value, Tag):
            return value
        argument = value.value
        match value.name:
            case "Ref":
                return self.reference(argument)
            case "GetAtt":
                return self.attribute(argument)
            case "Sub":
                return re.sub(r"\$\{([^}]+)\}", lambda match: str(self.reference(match[1])), argument)
            case "If":
                name, yes, no = argument
                return self.resolve(yes if self.condition(name) else no)
            case "Equals":
                return str(self.resolve(argument[0])) == str(self.resolve(argument[1]))
            case "Not":
                return not self.resolve(argument[0])
            case "And":
                return all(self.resolve(item) for item in argument)
            case "Or":
                return any(self.resolve(item) for item in argument)
            case "Condition":
                return self.condition(argument)
            case "FindInMap":
                table, row, column = argument
                return self.source["Mappings"][table][str(self.resolve(row))][column]
            case "Join":
                return argument[0].join(map(str, self.resolve(argument[1])))
            case "Select":
                return self.resolve(argument[1])[int(argument[0])]
            case "Split":
                return str(self.resolve(argument[1])).split(argument[0])
        raise KeyError(f"!{value.name} is not known here")

    def properties(self, resource):
        return self.resolve(self.source["Resources"][resource]["Properties"])


def camel(value):
    """ECS's API begins its names with a small letter, CloudFormation with a capital one."""
    if isinstance(value, dict):
        return {key[0].lower() + key[1:]: camel(item) for key, item in value.items()}
    return [camel(item) for item in value] if isinstance(value, list) else value


def task_definition(template):
    properties = camel(template.properties("TaskDefinition"))
    for key in ("cpu", "memory"):
        properties[key] = str(properties[key])
    for container in properties["containerDefinitions"]:
        for variable in container["environment"]:
            variable["value"] = str(variable["value"])
    return properties


def policy(template, resource):
    target = template.properties("Target")
    properties = template.properties(resource)
    del properties["ScalingTargetId"]
    return {key: target[key] for key in ("ServiceNamespace", "ResourceId", "ScalableDimension")} | properties


def alarm(template, resource, action):
    properties = template.properties(resource)
    # PutScalingPolicy answers with the policy's ARN, which has a random part.
    return properties | {"AlarmActions": [f"ARN of the policy {template.properties(action)['PolicyName']}"]}


def files(parameters):
    """Path below deploy/, the API call that takes it, and its content."""
    service = Template("service.yaml", parameters)
    scaling = Template("scaling.yaml", parameters)
    return [
        ("task-definitions/worker.json", ("ecs", "RegisterTaskDefinition"), task_definition(service)),
        ("scaling/scalable-target.json", ("application-autoscaling", "RegisterScalableTarget"), scaling.properties("Target")),
        ("scaling/target-tracking.json", ("application-autoscaling", "PutScalingPolicy"), policy(scaling, "OutPolicy")),
        ("scaling/step-in.json", ("application-autoscaling", "PutScalingPolicy"), policy(scaling, "InPolicy")),
        ("scaling/step-in-alarm.json", ("cloudwatch", "PutMetricAlarm"), alarm(scaling, "InAlarm", "InPolicy")),
        ("scaling/from-zero.json", ("application-autoscaling", "PutScalingPolicy"), policy(scaling, "ZeroPolicy")),
        ("scaling/from-zero-alarm.json", ("cloudwatch", "PutMetricAlarm"), alarm(scaling, "ZeroAlarm", "ZeroPolicy")),
    ]


def refused(call, content):
    """What botocore's model of the API has against `content` as input of `call`; empty when nothing."""
    import botocore.session
    from botocore.validate import ParamValidator

    service, operation = call
    model = botocore.session.get_session().get_service_model(service)
    report = ParamValidator().validate(content, model.operation_model(operation).input_shape)
    return report.generate_report()


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("--parameter", action="append", default=[], metavar="KEY=VALUE", help="instead of the example's")
    options = parser.parse_args(arguments)
    parameters = EXAMPLE | dict(item.split("=", 1) for item in options.parameter)
    wrong = 0
    for name, call, content in files(parameters):
        path, text = DEPLOY / name, json.dumps(content, indent=2) + "\n"
        if not options.check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            continue
        problem = refused(call, content)
        if problem:
            print(f"deploy/{name}: {'.'.join(call)} would refuse it: {problem}", file=sys.stderr)
        elif not path.exists() or path.read_text() != text:
            problem = "differs"
            print(f"deploy/{name} is not what the templates say; run deploy/cloudformation/render.py", file=sys.stderr)
        wrong += bool(problem)
    if options.check and not wrong:
        print(f"{len(files(parameters))} files are as the templates say, and as AWS's API takes them")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
