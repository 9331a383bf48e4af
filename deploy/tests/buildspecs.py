#!/usr/bin/env python3
"""Runs the pipeline's buildspecs stage by stage, as CodeBuild does: the commands themselves, in the shell they ask for, with the variables
that the template and the stages before give them. Needs bash, git, jq, and PyYAML and policy_sentry (of .ci/tools.lock).

`docker`, `aws`, `curl` and `pyenv` are stand-ins (stand_in.py), for there is neither a registry nor AWS: they note how they are called and
answer as theirs do. So what is seen here is the commands' own logic: quoting, what is passed on, and that a failure anywhere fails its stage.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]
from stand_in import PROGRAMS, digest  # noqa: E402
from templates import EXAMPLE, Resolved, render  # noqa: E402

ROOT = HERE.parents[1]
REGISTRY = "111122223333.dkr.ecr.us-east-1.amazonaws.com"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
RELEASE = COMMIT[:12]

# ---- CodeBuild ----------------------------------------------------------------------------------------------------------


class Build:
    """One run of a buildspec."""

    def __init__(self, buildspec, variables, machine="arm64", fails="", verdict=0):
        self.spec = render.yaml.safe_load((ROOT / buildspec).read_text())
        with tempfile.TemporaryDirectory() as directory:
            self.root = Path(directory)
            self.source = self.root / "src"
            copy_source(self.source)
            self.run(variables, machine, fails, verdict)

    def run(self, variables, machine, fails, verdict):
        programs, home, calls = self.root / "bin", self.root / "home", self.root / "calls"
        home.mkdir()
        calls.touch()
        put_stand_ins(programs)
        environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(home),
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_REGION": "us-east-1",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/of-the-build",
            "CODEBUILD_SRC_DIR": str(self.source),
            "CODEBUILD_RESOLVED_SOURCE_VERSION": COMMIT,
            "STAND_IN_CALLS": str(calls),
            "STAND_IN_FAILS": fails,
            "STAND_IN_MACHINE": machine,
            "STAND_IN_VERDICT": str(verdict),
            **variables,
        }
        done = subprocess.run(
            [self.spec.get("env", {}).get("shell", "sh"), "-c", self.script()],
            cwd=self.source,
            env=environment,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )
        self.status, self.output = done.returncode, done.stdout + done.stderr
        self.calls = [json.loads(line) for line in calls.read_text().splitlines()]
        exported = self.root / "exported"
        pairs = exported.read_text().split("\0") if exported.exists() else []
        self.exported = dict(pair.split("=", 1) for pair in pairs if pair)
        base = self.source / self.spec.get("artifacts", {}).get("base-directory", ".")
        names = self.spec.get("artifacts", {}).get("files", [])
        self.artifacts = {name: (base / name).read_text() for name in names if (base / name).is_file()}
        self.left = {path.name: path.read_text() for path in home.iterdir() if path.is_file()}

    def script(self):
        """All commands in one shell, which ends with the first that fails; then what is exported."""
        commands = [command for phase in ("install", "pre_build", "build", "post_build") for command in self.commands(phase)]
        lines = [f"{command}\nstatus=$?; [ $status -eq 0 ] || exit $status" for command in commands]
        for name in self.spec.get("env", {}).get("exported-variables", []):
            lines.append(f'printf \'{name}=%s\\0\' "${name}" >>"$CODEBUILD_SRC_DIR/../exported"')
        return "\n".join(lines)

    def commands(self, phase):
        return self.spec["phases"].get(phase, {}).get("commands", [])

    def called(self, program, *beginning):
        return [
            call["arguments"] for call in self.calls if call["program"] == program and call["arguments"][: len(beginning)] == list(beginning)
        ]


def put_stand_ins(directory):
    directory.mkdir()
    for program in PROGRAMS:
        command = shlex.join([sys.executable, str(HERE / "stand_in.py"), program])
        (directory / program).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (directory / program).chmod(0o755)


def copy_source(into):
    """What a source stage gives: the files, without a repository."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached"], cwd=ROOT, check=True, capture_output=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, target)
    # It would run everything, this test included.
    checks = into / ".ci/run"
    checks.write_text('printf "%s %s %s" "$CI" "$XDG_CACHE_HOME" "$(git status --porcelain | wc -l)" >"$HOME/checks"\n')


# ---- The pipeline -------------------------------------------------------------------------------------------------------


class Pipeline:
    """The stages of the template, with what they pass on."""

    def __init__(self):
        self.template = Resolved("pipeline.yaml", EXAMPLE)
        self.exported = {}

    def project(self, name):
        resources = self.template.source["Resources"]
        for logical in (key for key in resources if resources[key]["Type"] == "AWS::CodeBuild::Project"):
            properties = self.template.properties(logical)
            if name in (logical, properties["Name"]):
                return properties
        raise KeyError(name)

    def action(self, name):
        stages = self.template.properties("Pipeline")["Stages"]
        return next(action for stage in stages for action in stage["Actions"] if action["Name"] == name)

    def build(self, name, **more):
        """Runs the action `name` with the project's variables and its own."""
        action = self.action(name)
        project = self.project(action["Configuration"]["ProjectName"])
        variables = {pair["Name"]: str(pair["Value"]) for pair in project["Environment"].get("EnvironmentVariables", [])}
        text = action["Configuration"].get("EnvironmentVariables", "[]")
        text = re.sub(r"#\{(\w+)\.(\w+)\}", lambda match: self.exported[match[1]][match[2]], text)
        variables |= {pair["name"]: pair["value"] for pair in json.loads(text)}
        build = Build(project["Source"]["BuildSpec"], variables, **more)
        if "Namespace" in action and build.status == 0:
            self.exported[action["Namespace"]] = build.exported
        return build


class Checks:
    """Counts what was looked at, and prints what is not as it should be."""

    def __init__(self):
        self.made, self.wrong = 0, 0

    def equal(self, what, have, want, build):
        self.made += 1
        if have != want:
            self.wrong += 1
            print(f"buildspecs: {what}: {have!r}; expected {want!r}\n{build.output[-2000:]}", file=sys.stderr)

    def fails(self, what, build):
        self.equal(f"{what}: status", build.status != 0, True, build)
        self.equal(f"{what}: what it passes on", build.exported, {}, build)


def test_stage(pipeline, checks):
    build = pipeline.build("Test")
    checks.equal("Test", build.status, 0, build)
    checks.equal("Test: CI, cache, uncommitted files", build.left.get("checks", "").split(), ["true", f"{build.source}/../cache", "0"], build)
    checks.fails("Test without Python", pipeline.build("Test", fails="^pyenv install"))


def image_stage(pipeline, checks):
    for name, machine in (("Arm64", "arm64"), ("Amd64", "amd64")):
        build = pipeline.build(name, machine=machine)
        checks.equal(name, build.status, 0, build)
        want = {
            "RELEASE": RELEASE,
            "WORKER_DIGEST": digest("worker/Dockerfile", machine),
            "CANARY_DIGEST": digest("deploy/canary/Dockerfile", machine),
        }
        checks.equal(f"{name}: exported", build.exported, want, build)
        checks.equal(f"{name}: password", [call.get("password") for call in build.calls if "password" in call], ["the password"], build)
        pushed = [next(each for each in call if each.startswith("type=image")) for call in build.called("docker", "buildx", "build")]
        names = [f"{REGISTRY}/{EXAMPLE['WorkerRepository']}", f"{REGISTRY}/{EXAMPLE['CanaryRepository']}"]
        checks.equal(f"{name}: pushed", [re.search("name=([^,]+),push=true,push-by-digest=true", each)[1] for each in pushed], names, build)
    checks.fails("an image of the worker that does not build", pipeline.build("Arm64", fails="--file worker/Dockerfile"))
    checks.fails("an image of the release tool that does not build", pipeline.build("Arm64", fails="--file deploy/canary/Dockerfile"))
    checks.fails("a registry that refuses", pipeline.build("Arm64", fails="^docker login"))


def index_stage(pipeline, checks):
    build = pipeline.build("Index")
    checks.equal("Index", build.status, 0, build)
    images = {}
    for kind in ("worker", "canary"):
        repository = f"{REGISTRY}/{EXAMPLE[f'{kind.capitalize()}Repository']}"
        images[kind] = f"{repository}@{digest('index', f'{repository}:{RELEASE}')}"
        parts = [f"{repository}@{pipeline.exported[machine][f'{kind.upper()}_DIGEST']}" for machine in ("Arm64", "Amd64")]
        made = ["buildx", "imagetools", "create", "--tag", f"{repository}:{RELEASE}", *parts]
        checks.equal(f"Index of {kind}", made in build.called("docker"), True, build)
    want = {"WORKER_IMAGE": images["worker"], "WORKER_DIGEST": images["worker"].split("@")[1], "CANARY_IMAGE": images["canary"]}
    checks.equal("Index: exported", build.exported, want, build)
    checks.equal("image.json", json.loads(build.artifacts.get("image.json", "{}")), {"release": RELEASE, **images}, build)
    checks.equal("sbom.json", "SPDX" in json.loads(build.artifacts.get("sbom.json", "{}")), True, build)
    for kind in ("worker", "canary"):
        checks.fails(f"no index of {kind}", pipeline.build("Index", fails=f"imagetools create .*orders-{kind}:"))
    checks.fails("no bill of materials", pipeline.build("Index", fails="json .SBOM"))


def canary_stage(pipeline, checks):
    for verdict in (0, 1, 3, 4):
        build = pipeline.build("Rollout", verdict=verdict)
        checks.equal(f"Canary: the verdict {verdict} passed on", build.status, verdict, build)
        checks.equal("Canary: artifacts", sorted(build.artifacts), ["report.html", "report.json"], build)
        runs = build.called("docker", "run")
        rollout = next(call for call in runs if "rollout" in call)
        image = pipeline.exported["Index"]["CANARY_IMAGE"]
        told = rollout[rollout.index(image) + 1 :]
        options = dict(zip(told, told[1:]))
        checks.equal("Canary: release", (options["--release"], options["--image"]), (RELEASE, pipeline.exported["Index"]["WORKER_IMAGE"]), build)
        handed = [value for name, value in zip(rollout, rollout[1:]) if name == "--env"]
        checks.equal("Canary: credentials, by name", sorted(handed), ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_REGION"], build)
    checks.fails("a registry that refuses the canary stage", pipeline.build("Rollout", fails="^docker login"))


class Stopped:
    """canary.sh that gets SIGTERM in the midst of a rollout, as a build that is stopped or a job that is cancelled may."""

    def __init__(self, **variables):
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            put_stand_ins(root / "bin")
            calls = root / "calls"
            calls.touch()
            environment = {
                "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
                "RELEASE": RELEASE,
                "WORKER_IMAGE": f"{REGISTRY}/orders-worker@{digest('worker')}",
                "CANARY_APP": "orders",
                "CANARY_JOURNAL": "s3://bucket/orders/journal.json",
                "CANARY_REPORT": str(root / "report"),
                "STAND_IN_CALLS": str(calls),
                "STAND_IN_STAYS": "1",
                "STAND_IN_VERDICT": "1",
                **variables,
            }
            script = subprocess.Popen(
                [ROOT / "deploy/pipeline/canary.sh"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            deadline = time.monotonic() + 20
            while "rollout" not in calls.read_text() and time.monotonic() < deadline:
                time.sleep(0.02)
            script.terminate()
            self.output, _ = script.communicate(timeout=60)
            self.status = script.returncode
            self.told = [call["stopped"] for call in map(json.loads, calls.read_text().splitlines()) if "stopped" in call]


def stopped(_pipeline, checks):
    for variables in ({"CANARY_BIN": "canary"}, {"CANARY_IMAGE": f"{REGISTRY}/orders-canary@{digest('canary')}"}):
        build = Stopped(**variables)
        checks.equal(f"stopped, {variables}: the tool gets the signal, and has ended when the script does", build.told, [True], build)
        checks.equal(f"stopped, {variables}: the tool's own status", build.status, 1, build)


def main():
    pipeline, checks = Pipeline(), Checks()
    for stage in (test_stage, image_stage, index_stage, canary_stage, stopped):
        stage(pipeline, checks)
    if not checks.wrong:
        print(f"buildspecs run as CodeBuild runs them: {checks.made} checks")
    return 1 if checks.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
