"""Stands in for the AWS CLI, so that scripts that call it are played: `Aws` is an account in this process, and puts a program `aws` on
a path.

What a script asks is held against AWS's own models (botocore): that there is such an operation, that it has these parameters and no
required one is missing, that their values are of the right kind. What the account answers is held against the same models, and what
`--query` and `--output` make of it is made as the CLI does. The values themselves are the account's, a function of each operation.

Needs botocore, of .ci/tools.lock.
"""

import json
import os
import re
import socketserver
import sys
import threading
from pathlib import Path

import botocore
import botocore.session
import jmespath
from botocore.validate import ParamValidator

# The program asks this process: loading the models takes longer than most scripts.
CLIENT = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({socket!r})
    with connection.makefile("rw") as stream:
        json.dump({{"arguments": sys.argv[1:], "directory": os.getcwd()}}, stream)
        stream.write("\\n")
        stream.flush()
        answer = json.loads(stream.readline())
sys.stdout.write(answer["output"])
sys.stderr.write(answer["error"])
sys.exit(answer["status"])
"""
SERVICES = {"s3api": "s3"}
# Options of the CLI itself, with a value.
GLOBAL = ("query", "output", "region", "cli_binary_format")


class Refused(Exception):
    """AWS refuses a call: its code, and its words."""

    def __init__(self, code, text="refused, as the test wants it"):
        super().__init__(text)
        self.code, self.text = code, text


class Misused(Exception):
    """The CLI refuses its arguments, before it asks AWS."""


class Aws:
    """An account. A subclass has a method `service_operation` for each call that it answers, which takes the call's parameters."""

    def __init__(self, directory):
        self.directory, self.calls, self.wrong = Path(directory), [], []
        self.session, self.models = botocore.session.get_session(), {}
        socket = self.directory / "aws.socket"
        account = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                asked = json.loads(self.rfile.readline())
                self.wfile.write((json.dumps(account.run(asked["arguments"], Path(asked["directory"]))) + "\n").encode())

        self.server = socketserver.ThreadingUnixStreamServer(str(socket), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.programs = self.directory / "bin"
        self.program("aws", CLIENT.format(python=sys.executable, socket=str(socket)))

    def program(self, name, text):
        """Puts a program on the path."""
        self.programs.mkdir(exist_ok=True)
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def environment(self, **more):
        return {"PATH": f"{self.programs}:{os.environ['PATH']}", "HOME": str(self.directory), "AWS_REGION": "us-east-1", **more}

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    # ---- The CLI ----------------------------------------------------------------------------------------------------

    def run(self, arguments, directory):
        try:
            return {"status": 0, "output": self.answer(arguments, directory), "error": ""}
        except Refused as refused:
            text = f"\nAn error occurred ({refused.code}) when calling the {arguments[1]} operation: {refused.text}\n"
            return {"status": 254, "output": "", "error": text}
        except Misused as misused:
            self.wrong.append(f"aws {' '.join(arguments)}: {misused}")
            return {"status": 252, "output": "", "error": f"aws: {misused}\n"}
        except Exception as error:  # a mistake in the account: it must not pass for one in the script
            self.wrong.append(f"aws {' '.join(arguments)}: {error!r}")
            return {"status": 255, "output": "", "error": f"{error!r}\n"}

    def answer(self, arguments, directory):
        service, operation, *rest = arguments
        custom = getattr(self, f"cli_{service}_{operation}".replace("-", "_"), None)
        if custom:
            self.calls.append((f"{service} {operation}", rest))
            return custom(rest)
        model = self.model(SERVICES.get(service, service))
        operations = {dashed(name): name for name in model.operation_names}
        if operation not in operations:
            raise Misused(f"{service} has no operation {operation}")
        shape = model.operation_model(operations[operation])
        positional, options = self.options(rest)
        settings = {name: options.pop(name)[0] for name in GLOBAL if name in options}
        parameters = self.parameters(shape.input_shape, options)
        self.calls.append((f"{service} {operation}", parameters))
        answered = getattr(self, f"{service}_{operation}".replace("-", "_"))(parameters) or {}
        if positional:
            # What a function answers goes into a file.
            (directory / positional[0]).write_text(answered.pop("Payload"))
        report = ParamValidator().validate(answered, shape.output_shape) if shape.output_shape else None
        if report and report.has_errors():
            raise ValueError(f"the account's answer is none that AWS gives: {report.generate_report()}")
        return written(answered, settings)

    def model(self, service):
        if service not in self.models:
            try:
                self.models[service] = self.session.get_service_model(service)
            except botocore.exceptions.UnknownServiceError as error:
                raise Misused(str(error)) from error
        return self.models[service]

    @staticmethod
    def options(rest):
        """Positional arguments, and the values of each option."""
        positional, options, name = [], {}, None
        for argument in rest:
            if argument.startswith("--"):
                name = argument[2:].replace("-", "_")
                options[name] = []
            elif name is None or (options[name] and name in GLOBAL):
                positional.append(argument)
            else:
                options[name].append(argument)
        return positional, options

    def parameters(self, shape, options):
        members = {botocore.xform_name(name): (name, member) for name, member in (shape.members if shape else {}).items()}
        parameters = {}
        for option, values in options.items():
            if option not in members:
                raise Misused(f"Unknown options: --{option.replace('_', '-')}")
            name, member = members[option]
            parameters[name] = value_of(member, values, option)
        report = ParamValidator().validate(parameters, shape) if shape else None
        if report and report.has_errors():
            raise Misused(report.generate_report())
        return parameters


def dashed(name):
    return botocore.xform_name(name, "-")


def value_of(shape, values, option):
    """Values of an option as the shape has them: JSON, or the CLI's shorthand."""
    if shape.type_name == "list":
        if len(values) == 1 and values[0][:1] in "[{":
            return json.loads(values[0])
        return [value_of(shape.member, [value], option) for value in values]
    if shape.type_name == "boolean" and not values:
        return True
    if len(values) != 1:
        raise Misused(f"--{option.replace('_', '-')} takes one value, not {values}")
    (value,) = values
    match shape.type_name:
        case "structure" if value[:1] == "{":
            return json.loads(value)
        case "structure":
            pairs = dict(pair.split("=", 1) for pair in value.split(","))
            if unknown := pairs.keys() - shape.members.keys():
                raise Misused(f"--{option.replace('_', '-')} has no {sorted(unknown)}")
            return {key: value_of(shape.members[key], [text], option) for key, text in pairs.items()}
        case "boolean" if value in ("true", "false"):
            return value == "true"
        case "integer" | "long":
            return int(value)
        case "blob":
            return value.encode()
    return value


def written(answer, settings):
    """As the CLI writes it."""
    if "query" in settings:
        answer = jmespath.search(settings["query"], answer)
    if settings.get("output", "json") == "json":
        return json.dumps(answer, indent=4) + "\n" if answer or "query" in settings else ""
    rows = answer if isinstance(answer, list) else [answer]
    if any(isinstance(row, (dict, list)) for row in rows):
        raise Misused("text of nested values is not made here")
    return "\t".join("None" if row is None else str(row) for row in rows) + "\n"


# ---- CloudFormation ---------------------------------------------------------------------------------------------------


def overrides(template, pairs, known):
    """What CloudFormation has against these parameters for a template; `known` are the SSM parameters that there are."""
    declared, given = template["Parameters"], dict(pair.split("=", 1) for pair in pairs)
    for name in given.keys() - declared.keys():
        yield f"Parameters: [{name}] do not exist in the template"
    for name, parameter in declared.items():
        if name not in given and "Default" not in parameter:
            yield f"Parameters: [{name}] must have values"
        value = given.get(name)
        if value is None:
            continue
        if "AllowedPattern" in parameter and not re.search(parameter["AllowedPattern"], value):
            yield f"Parameter '{name}' must match pattern {parameter['AllowedPattern']}, and is {value!r}"
        if "AllowedValues" in parameter and value not in map(str, parameter["AllowedValues"]):
            yield f"Parameter '{name}' must be one of AllowedValues, and is {value!r}"
        if "MinValue" in parameter and not parameter["MinValue"] <= int(value) <= parameter["MaxValue"]:
            yield f"Parameter '{name}' is out of its range: {value}"
        if parameter["Type"].startswith("AWS::SSM::Parameter") and value not in known:
            yield f"Unable to fetch parameters [{value}] from parameter store for this account."
