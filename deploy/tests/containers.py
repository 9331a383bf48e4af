"""Where tasks run, with Docker: ministack starts a container of the worker's image for each, and this watches how they end."""

import json
import os
import platform
import subprocess
import threading
import uuid
from pathlib import Path

import docker

from application import APP, CANARY, STABLE, wait_for

TASK = "com.amazonaws.ecs.task-arn"
OURS = {"label": f"com.amazonaws.ecs.cluster=arn:aws:ecs:us-east-1:000000000000:cluster/{APP}"}
# What the image asks for, as /proc shows it: no user but this, no capability, a root file system that nobody writes to.
CONFINED = {"Uid": "65532", "Gid": "65532", "CapPrm": "0", "CapEff": "0", "CapBnd": "0"}


class Containers:
    """Real tasks, and the release tool in a container of its own image.

    `made` is what deploy/tests/engine.sh made: the network, the images' names by release, that of the release tool.
    """

    def __init__(self, canary, made):
        self.canary = canary
        self.made = json.loads(Path(made).read_text())
        self.kept = Path(self.made["logs"])
        self.docker = docker.from_env()

    def image(self, release):
        return self.made["releases"][release]

    @staticmethod
    def adapt(definition):
        """The images are of this machine's kind."""
        definition["runtimePlatform"]["cpuArchitecture"] = "ARM64" if platform.machine() in ("aarch64", "arm64") else "X86_64"

    def start(self, cloud, _directory):
        self.cloud = cloud
        for file in self.kept.glob("*.log"):
            file.unlink()
        self.ends = Ends(self.docker)
        self.ends.start()

    def running(self):
        return self.docker.containers.list(filters=OURS, ignore_removed=True)

    def confined(self):
        """What runs otherwise than the image asks for, seen from outside."""
        for container in self.running():
            process = Path("/proc") / str(container.attrs["State"]["Pid"])
            status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
            for name, want in CONFINED.items():
                for have in status[name].split():
                    if have.lstrip("0") != want.lstrip("0"):
                        yield f"{container.name}: {name} is {have}; expected {want}"
            root = next(line.split() for line in (process / "mountinfo").read_text().splitlines() if line.split()[4] == "/")
            if "ro" not in root[5].split(","):
                yield f"{container.name}: its root file system can be written to: {root[5]}"

    def logs(self):
        """What ECS says of its services, and the last lines of each container that is there."""
        for service in (STABLE, CANARY):
            yield from (event["message"] for event in self.cloud.service(service)["events"][:5])
        for arn in self.cloud.ecs.list_tasks(cluster=APP, desiredStatus="STOPPED")["taskArns"][-3:]:
            task = self.cloud.ecs.describe_tasks(cluster=APP, tasks=[arn])["tasks"][0]
            yield f"{arn}: {task.get('stopCode')}: {task.get('stoppedReason')}"
        for container in self.docker.containers.list(all=True, filters=OURS, ignore_removed=True):
            state = container.attrs["State"]
            yield f"{container.name}: {state['Status']}, {state.get('Health', {}).get('Status')}, exit code {state['ExitCode']}"
            yield from (f"{container.name}: {line}" for line in container.logs(tail=5).decode().splitlines())

    def ended_logs(self):
        """What the containers wrote that have ended and are removed."""
        return [file.read_text() for file in self.kept.glob("*.log")]

    def close(self):
        """Stops the services as a person would, and says what was not as it should be."""
        for service in (CANARY, STABLE):
            self.cloud.ecs.update_service(cluster=APP, service=service, desiredCount=0)
        wait_for("no container is left", lambda: not self.docker.containers.list(all=True, filters=OURS, ignore_removed=True), 90)
        return self.ends.close()

    def tool(self, arguments, directory, environment, **more):
        """The release tool, in the directory that it reads from and leaves its reports in."""
        directory.chmod(0o777)
        me = [] if os.geteuid() == 0 else ["--user", f"{os.getuid()}:{os.getgid()}"]  # who can remove what it leaves
        name = f"canary-{uuid.uuid4().hex[:8]}"
        command = ["docker", "run", "--rm", "--interactive", "--name", name, "--network", self.made["network"]]
        command += ["--read-only", "--cap-drop", "ALL", "--volume", f"{directory}:/rollout", "--workdir", "/rollout", *me]
        for pair in environment.items():
            command += ["--env", "=".join(pair)]
        return Contained(name, [*command, self.made["canary"], *arguments], text=True, env=dict(os.environ), **more)


class Contained(subprocess.Popen):
    """A container as if it were a process: its exit code, its streams; and killed, it is dead, not only its client."""

    def __init__(self, name, command, **more):
        super().__init__(command, **more)
        self.name = name

    def kill(self):
        subprocess.run(["docker", "kill", self.name], check=True, stdout=subprocess.DEVNULL)


class Ends(threading.Thread):
    """How containers of tasks ended, by the engine's own account of it."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.events = client.events(decode=True, filters={"type": "container", "event": ["kill", "die"], **OURS})
        self.signals, self.drained, self.crashed, self.faults = {}, [], [], []

    def run(self):
        for event in self.events:
            container, attributes = event["Actor"]["ID"], event["Actor"]["Attributes"]
            name, at = attributes["name"], event["timeNano"] / 1e9
            if event["Action"] == "kill":
                self.signals.setdefault(container, []).append((attributes["signal"], at))
                continue
            code, signals = int(attributes["exitCode"]), self.signals.pop(container, [])
            if not signals:
                self.crashed.append((name, code))
            elif [number for number, _ in signals] != ["15"] or code != 0:
                numbers = ", ".join(number for number, _ in signals)
                self.faults.append(f"{name} ended with exit code {code} after the signals {numbers}; expected 0 after SIGTERM alone")
            else:
                self.drained.append(at - signals[0][1])

    def close(self):
        """Told all that has happened; what is wrong with it."""
        self.events.close()
        self.join(timeout=10)
        longest = max(self.drained, default=0)
        print(f"    {len(self.drained)} containers drained within {longest:.1f} s, {len(self.crashed)} ended by themselves", flush=True)
        return self.faults if self.drained else [*self.faults, "no container was drained"]
