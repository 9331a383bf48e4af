"""ministack, whose ECS starts containers as the real one does. Run by deploy/tests/engine.sh in the place of `ministack`.

ministack 1.5.33 runs real containers, and leaves out what this test is about. Here ECS also heeds what the task definition says of the
user, the root file system, capabilities, memory, health check and stopTimeout; StopTask returns before the container has ended; a
task's health is its container's; the metadata name the service; and addresses are those of ECS: 169.254.170.2 is the only one, beside
loopback, from which an SDK takes credentials without TLS. What is still not as on AWS: a deployment does not wait for health checks,
and the share of the processor is not limited.
"""

import os
import sys
import threading
import time
from pathlib import Path

import docker
from ministack import app
from ministack.services import ecs, ecs_metadata

LOGS = Path(os.environ["LOGS"])  # where logs are kept of containers that are removed
ADDRESS, NETWORK, REGION = os.environ["BIND_HOST"], os.environ["ECS_NETWORK"], "us-east-1"
STOP_TIMEOUT = "stop-timeout"
SECOND = 10**9  # nanoseconds
HEALTH = {"healthy": "HEALTHY", "unhealthy": "UNHEALTHY"}
LOOK_EVERY = 1  # second; ministack asks the engine ten times a second for each task, which takes a core


def confined(run_kwargs):
    def build(container, task, environment, *rest):
        arguments = run_kwargs(container, task, environment, *rest)
        del arguments["extra_hosts"]
        arguments["network"] = NETWORK
        arguments["labels"][STOP_TIMEOUT] = str(container.get("stopTimeout", 30))
        arguments["user"] = container.get("user")
        arguments["read_only"] = container.get("readonlyRootFilesystem", False)
        arguments["cap_drop"] = container.get("linuxParameters", {}).get("capabilities", {}).get("drop", [])
        arguments["mem_limit"] = f"{task['memory']}m"
        if check := container.get("healthCheck"):
            arguments["healthcheck"] = {
                "test": check["command"],
                "interval": check["interval"] * SECOND,
                "timeout": check["timeout"] * SECOND,
                "retries": check["retries"],
                "start_period": check["startPeriod"] * SECOND,
            }
        return arguments

    return build


def addressed(register):
    def register_metadata(task, cluster, definition, container, launch_type, environment, host_mode, _address):
        token = register(task, cluster, definition, container, launch_type, environment, host_mode, ADDRESS)
        environment["AWS_REGION"] = REGION  # Fargate says so
        environment["AWS_DISABLE_REQUEST_COMPRESSION"] = "true"  # ministack takes compressed data for none
        return token

    return register_metadata


def named(register):
    def register_container(token, task_arn, task_payload, container_payload):
        kind, _, service = ecs._tasks[task_arn]["group"].partition(":")
        if kind == "service":
            task_payload["ServiceName"] = service
        container_payload["ImageID"] = container_payload["Image"].partition("@")[2]
        register(token, task_arn, task_payload, container_payload)

    return register_container


def remove(client, container):
    """Stops a container within its stopTimeout, and removes it; nobody waits for that."""
    client = client or ecs._get_docker()
    if container is None:
        return

    def stop():
        try:
            there = client.containers.get(container) if isinstance(container, str) else container
            there.stop(timeout=int(there.labels.get(STOP_TIMEOUT, 30)))
            (LOGS / f"{there.name}.log").write_bytes(there.logs())
            there.remove(v=True, force=True)
        except docker.errors.NotFound:
            pass  # one of those that were never created, or removed by the other of two calls
        except docker.errors.APIError as error:
            print(f"stopping {container}: {error}", file=sys.stderr, flush=True)

    threading.Thread(target=stop).start()


def healthy(look):
    looked = {}

    def look_and_ask(task, client=None):
        now, arn = time.monotonic(), task["taskArn"]
        if now - looked.get(arn, -LOOK_EVERY) < LOOK_EVERY:
            return
        looked[arn] = now
        look(task, client)
        client = client or ecs._get_docker()
        for index, container in enumerate(list(task.get("_docker_ids") or [])):
            try:
                state = client.containers.get(container).attrs["State"]
            except docker.errors.APIError:
                continue
            health = HEALTH.get(state.get("Health", {}).get("Status"), "UNKNOWN")
            task["healthStatus"] = task["containers"][index]["healthStatus"] = health

    return look_and_ask


ecs._build_run_kwargs = confined(ecs._build_run_kwargs)
ecs._register_metadata = addressed(ecs._register_metadata)
ecs_metadata.register_container = named(ecs_metadata.register_container)
ecs._remove_docker_container = remove
ecs._maybe_mark_stopped = healthy(ecs._maybe_mark_stopped)

if __name__ == "__main__":
    app.main()
