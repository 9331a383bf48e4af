"""The application that releases are rolled out for: queues, bucket, parameters and services on ministack, and its traffic."""

import contextlib
import json
import threading
import time
from pathlib import Path

import boto3
import botocore.config

HERE = Path(__file__).resolve().parent
ACCOUNT, REGION = "000000000000", "us-east-1"
APP = "orders"
STABLE, CANARY = f"{APP}-stable", f"{APP}-canary"
PINNED, CONTROL = f"/{APP}/canary/stable-task-definition", f"/{APP}/canary/control"
BUCKET = "orders-canary-journal"
JOURNAL = f"s3://{BUCKET}/{APP}/journal.json"
RATE = 80  # messages a second


class Failure(Exception):
    """What is not as it should be."""


def wait_for(what, condition, seconds=120):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.3)
    raise Failure(f"{what}: not within {seconds} s")


class Cloud:
    """The application on ministack: queues, bucket, parameters, cluster and services; its tasks run at `place`."""

    def __init__(self, url, place):
        self.url, self.place = url, place
        self.ecs, self.sqs, self.s3, self.ssm, self.cloudwatch = (
            self.client(name) for name in ("ecs", "sqs", "s3", "ssm", "cloudwatch")
        )

    def client(self, service):
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=botocore.config.Config(retries={"total_max_attempts": 3}, s3={"addressing_style": "path"}),
        )

    def environment(self):
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    def make(self):
        self.urls = {name: self.sqs.create_queue(QueueName=name)["QueueUrl"] for name in (f"{APP}-dlq",)}
        arn = self.sqs.get_queue_attributes(QueueUrl=self.urls[f"{APP}-dlq"], AttributeNames=["QueueArn"])
        policy = json.dumps({"deadLetterTargetArn": arn["Attributes"]["QueueArn"], "maxReceiveCount": 5})
        self.sqs.set_queue_attributes(QueueUrl=self.urls[f"{APP}-dlq"], Attributes={"MessageRetentionPeriod": "1209600"})
        for name in (APP, f"{APP}-handover"):
            attributes = {"RedrivePolicy": policy, "VisibilityTimeout": "30"}
            self.urls[name] = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.s3.create_bucket(Bucket=BUCKET)
        self.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        self.ecs.create_cluster(clusterName=APP)
        first = self.ecs.register_task_definition(**self.definition())["taskDefinition"]["taskDefinitionArn"]
        self.ssm.put_parameter(Name=PINNED, Value=first, Type="String", Overwrite=True)
        for name, desired in ((STABLE, 2), (CANARY, 0)):
            self.ecs.create_service(
                cluster=APP,
                serviceName=name,
                taskDefinition=first,
                desiredCount=desired,
                deploymentConfiguration={"deploymentCircuitBreaker": {"enable": True, "rollback": name == STABLE}},
            )

    def definition(self):
        """The one of deploy/task-definitions, but for the queues of here, and for what the place changes."""
        definition = json.loads((HERE.parent / "task-definitions" / "worker.json").read_text())
        worker = definition["containerDefinitions"][0]
        worker["image"] = self.place.image("1.0.0")
        self.place.adapt(definition)
        changed = {
            "WORKER__QUEUE__URL": self.urls[APP],
            "WORKER__DLQ__URL": self.urls[f"{APP}-dlq"],
            "WORKER__HANDOVER__URL": self.urls[f"{APP}-handover"],
            "WORKER__HANDLER__DEADLINE": "2s",
            "WORKER__SHUTDOWN__TIMEOUT": "8s",
            "WORKER__QUEUE__WAIT": "1s",
            "WORKER__CONCURRENCY": "20",
            "WORKER__ORDERS__LATENCY": "20ms",
            # Sooner than a minute, so that a scenario takes minutes and not hours.
            "WORKER__CLOUDWATCH__INTERVAL": "2s",
            "WORKER__CONTROL__INTERVAL": "1s",
        }
        environment = {pair["name"]: pair["value"] for pair in worker["environment"]} | changed
        worker["environment"] = [{"name": name, "value": value} for name, value in environment.items()]
        return definition

    # ---- What is there ---------------------------------------------------------------------------------------------------

    def service(self, name):
        return self.ecs.describe_services(cluster=APP, services=[name])["services"][0]

    def tasks(self):
        """ARN of every task that runs: its service and its task definition."""
        found = {}
        for name in (STABLE, CANARY):
            arns = self.ecs.list_tasks(cluster=APP, serviceName=name, desiredStatus="RUNNING")["taskArns"]
            for task in self.ecs.describe_tasks(cluster=APP, tasks=arns)["tasks"] if arns else []:
                if task["lastStatus"] == "RUNNING":
                    found[task["taskArn"]] = (name, task["taskDefinitionArn"])
        return found

    def release_of(self, arn):
        worker = self.ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]["containerDefinitions"][0]
        return {pair["name"]: pair["value"] for pair in worker["environment"]}["WORKER__RELEASE"]

    def releases(self, service):
        return sorted(self.release_of(definition) for name, definition in self.tasks().values() if name == service)

    def pinned(self):
        return self.release_of(self.ssm.get_parameter(Name=PINNED)["Parameter"]["Value"])

    def control(self):
        return json.loads(self.ssm.get_parameter(Name=CONTROL)["Parameter"]["Value"])

    def journal(self):
        with contextlib.suppress(self.s3.exceptions.NoSuchKey):
            return json.loads(self.s3.get_object(Bucket=BUCKET, Key=f"{APP}/journal.json")["Body"].read())
        return None

    def depth(self, queue):
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.urls[queue], AttributeNames=names)["Attributes"]
        return sum(int(value) for value in attributes.values())


def order(number):
    item = {"sku": f"article-{number % 100}", "quantity": 1, "unit_price_cents": 1999}
    return json.dumps({"order_id": f"o-{number}", "customer": f"customer-{number % 1000}", "currency": "EUR", "items": [item]})


class Traffic(threading.Thread):
    """Messages at a constant rate."""

    def __init__(self, cloud):
        super().__init__(daemon=True)
        self.cloud, self.sent, self.over = cloud, 0, threading.Event()

    def run(self):
        began = time.monotonic()
        while not self.over.is_set():
            if self.sent >= (time.monotonic() - began) * RATE:
                time.sleep(0.02)
                continue
            entries = [{"Id": str(n), "MessageBody": order(self.sent + n)} for n in range(10)]
            self.cloud.sqs.send_message_batch(QueueUrl=self.cloud.urls[APP], Entries=entries)
            self.sent += len(entries)
