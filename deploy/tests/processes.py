"""Where tasks run, without Docker: ministack simulates them, and a worker process of this machine runs for each."""

import contextlib
import hashlib
import os
import signal
import subprocess
import threading

import botocore.exceptions

from application import ACCOUNT, CANARY, REGION


class Processes:
    """A worker process for each task that ministack says is there, and the release tool as a process."""

    def __init__(self, canary, worker):
        self.canary, self.worker = canary, worker

    @staticmethod
    def image(release):
        """A name for an image that nobody pulls."""
        digest = hashlib.sha256(release.encode()).hexdigest()
        return f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/orders-worker@sha256:{digest}"

    @staticmethod
    def adapt(definition):
        """Nobody checks the health of what is simulated, and processes of one machine share its ports."""
        worker = definition["containerDefinitions"][0]
        del worker["healthCheck"]
        next(pair for pair in worker["environment"] if pair["name"] == "WORKER__ADMIN__ADDRESS")["value"] = "127.0.0.1:0"

    def start(self, cloud, directory):
        self.directory = directory
        self.agent = Agent(cloud, self.worker, directory)
        self.agent.start()

    @staticmethod
    def confined():
        """Processes of this machine are not."""
        return []

    def logs(self):
        """The last lines of each worker."""
        for file in sorted(self.directory.glob("*.log")):
            yield from (f"{file.stem}: {line}" for line in file.read_text().splitlines()[-5:])

    def ended_logs(self):
        """What the workers that have ended wrote."""
        return [file.read_text() for file in self.directory.glob("*.log")]

    def close(self):
        """Stops what runs. What is not as it should be: nothing that this could see."""
        self.agent.over.set()
        self.agent.join()
        return []

    def tool(self, arguments, directory, environment, **more):
        environment = {"PATH": os.environ["PATH"], **environment}
        return subprocess.Popen([self.canary, *arguments], cwd=directory, env=environment, text=True, **more)


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
