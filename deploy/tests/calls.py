"""What each role's code calls, and what it must never be able to call.

The calls of the worker are read from its source: every operation of an AWS SDK that it names must have a row here, and its role
must allow it. A call that is added without its permission fails the test (broadway_sqs#42: a missing permission to delete sent
everything to the dead-letter queue).
"""

import re
from pathlib import Path

import botocore.session

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT, REGION = "000000000000", "us-east-1"


def arn(service, resource):
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


MAIN, HANDOVER, DEAD = (arn("sqs", name) for name in ("orders", "orders-handover", "orders-dlq"))
CONTROL = arn("ssm", "parameter/orders/canary/control")
PINNED = arn("ssm", "parameter/orders/canary/stable-task-definition")
STABLE, CANARY = (arn("ecs", f"service/orders/orders-{track}") for track in ("stable", "canary"))
TASK = arn("ecs", "task/orders/0123456789abcdef")
CLUSTER = arn("ecs", "cluster/orders")
JOURNAL = f"arn:aws:s3:::orders-canary-journal-{ACCOUNT}-{REGION}/orders/journal.json"
BUCKET = f"arn:aws:s3:::orders-canary-journal-{ACCOUNT}-{REGION}"
PAYLOADS = "arn:aws:s3:::orders-payloads"
ARTIFACT = f"arn:aws:s3:::orders-pipeline-{ACCOUNT}-{REGION}/orders/source/abc"
WORKER_IMAGES, CANARY_IMAGES = (arn("ecr", f"repository/orders-{name}") for name in ("worker", "canary"))
TARGET = arn("application-autoscaling", "scalable-target/0123")
NAMESPACE = {"cloudwatch:namespace": "QueueWorker"}
ECS_NAMESPACE = {"application-autoscaling:service-namespace": "ecs"}
IN_CLUSTER = {"ecs:cluster": CLUSTER}
TO_TASKS = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
ANY = "*"


def role(name):
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


# Operation of the SDK, as the source writes it: what IAM asks for, and on what. Batches ask for the single action.
WORKER_CALLS = {
    "get_queue_url": ("sqs:GetQueueUrl", [MAIN, HANDOVER, DEAD], {}),
    "get_queue_attributes": ("sqs:GetQueueAttributes", [MAIN, HANDOVER, DEAD], {}),
    "receive_message": ("sqs:ReceiveMessage", [MAIN, HANDOVER], {}),
    "delete_message_batch": ("sqs:DeleteMessage", [MAIN, HANDOVER], {}),
    "change_message_visibility_batch": ("sqs:ChangeMessageVisibility", [MAIN, HANDOVER], {}),
    "send_message_batch": ("sqs:SendMessage", [MAIN, HANDOVER, DEAD], {}),
    "put_metric_data": ("cloudwatch:PutMetricData", [ANY], NAMESPACE),
    "get_parameter": ("ssm:GetParameter", [CONTROL], {}),
    "get_object": ("s3:GetObject", [f"{PAYLOADS}/large/1"], {}),
}
# What others ask for in the worker's name: S3, to tell a missing object from a denied one, and the agent of ECS.
WORKER_NEEDS = [
    ("s3:ListBucket", [PAYLOADS], {}),
    ("ecs:GetTaskProtection", [TASK], {}),
    ("ecs:UpdateTaskProtection", [TASK], {}),
]
# Calls of the library that the service itself does not make: those of `canary redrive`, with the permissions of the release tool.
NOT_OF_THE_SERVICE = {"list_dead_letter_source_queues"}

HISTORY = f"arn:aws:s3:::orders-canary-journal-{ACCOUNT}-{REGION}/orders/history/1.json"
# The same of the release tool, apart from the demo: what its adapters call.
TOOL_CALLS = {
    "describe_services": ("ecs:DescribeServices", [STABLE, CANARY], {}),
    "update_service": ("ecs:UpdateService", [STABLE, CANARY], {}),
    "list_tasks": ("ecs:ListTasks", [ANY], IN_CLUSTER),
    "describe_tasks": ("ecs:DescribeTasks", [TASK], {}),
    "update_task_protection": ("ecs:UpdateTaskProtection", [TASK], {}),
    "describe_task_definition": ("ecs:DescribeTaskDefinition", [ANY], {}),
    "register_task_definition": ("ecs:RegisterTaskDefinition", [ANY], {}),
    "describe_scalable_targets": ("application-autoscaling:DescribeScalableTargets", [ANY], {}),
    "register_scalable_target": ("application-autoscaling:RegisterScalableTarget", [TARGET], ECS_NAMESPACE),
    "describe_alarms": ("cloudwatch:DescribeAlarms", [arn("cloudwatch", "alarm:orders-canary-failing")], {}),
    "get_metric_data": ("cloudwatch:GetMetricData", [ANY], {}),
    "put_metric_data": ("cloudwatch:PutMetricData", [ANY], NAMESPACE),
    "get_parameter": ("ssm:GetParameter", [CONTROL, PINNED], {}),
    "put_parameter": ("ssm:PutParameter", [CONTROL, PINNED], {}),
    "get_object": ("s3:GetObject", [JOURNAL, HISTORY], {}),
    "put_object": ("s3:PutObject", [JOURNAL, HISTORY], {}),
    "list_objects_v2": ("s3:ListBucket", [BUCKET], {"s3:prefix": "orders/history/"}),
}
# What the watchdog, which is the same code, has no way to.
NOT_OF_THE_WATCHDOG = {"register_task_definition", "get_metric_data", "put_metric_data", "list_objects_v2"}
# Without leave to list, S3 answers for a journal that is not there as if it might not be read.
JOURNAL_MISSING = ("s3:ListBucket", [BUCKET], {"s3:prefix": "orders/journal.json"})
NEVER = [
    ("ecs:UpdateService", [arn("ecs", "service/orders/payments-stable")], {}),
    ("ecs:DeleteService", [STABLE], {}),
    ("ecs:ListTasks", [ANY], {"ecs:cluster": arn("ecs", "cluster/payments")}),
    ("sqs:PurgeQueue", [MAIN, HANDOVER, DEAD], {}),
    ("sqs:DeleteQueue", [MAIN, HANDOVER, DEAD], {}),
    ("sqs:SetQueueAttributes", [MAIN, HANDOVER, DEAD], {}),
    ("sqs:StartMessageMoveTask", [DEAD], {}),
    ("s3:DeleteObject", [JOURNAL], {}),
    ("s3:DeleteObjectVersion", [JOURNAL], {}),
    ("s3:GetObject", ["arn:aws:s3:::payments/secret"], {}),
    ("ssm:PutParameter", [arn("ssm", "parameter/payments/canary/control")], {}),
    ("ssm:GetParameter", [arn("ssm", "parameter/orders/database-password")], {}),
    ("secretsmanager:GetSecretValue", [arn("secretsmanager", "secret:orders")], {}),
    ("iam:PassRole", [role("admin")], TO_TASKS),
    ("iam:CreateRole", [role("anybody")], {}),
    ("sts:AssumeRole", [role("admin")], {}),
    ("kms:Decrypt", [arn("kms", "key/1")], {}),
    ("cloudwatch:PutMetricData", [ANY], {"cloudwatch:namespace": "AWS/SQS"}),
    ("lambda:UpdateFunctionCode", [arn("lambda", "function:orders-watchdog")], {}),
]
PUSH = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
]
PULL = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
BUILD_LOG = arn("logs", "log-group:/aws/codebuild/orders:log-stream:test/1")

# Role or policy by its logical name: template, calls that must be allowed, calls that must be denied (beside NEVER).
ROLES = {
    "TaskRole": (
        "service",
        [*WORKER_CALLS.values(), *WORKER_NEEDS],
        [
            ("sqs:ReceiveMessage", [DEAD, arn("sqs", "payments")], {}),
            ("sqs:DeleteMessage", [DEAD], {}),
            ("sqs:SendMessage", [arn("sqs", "payments")], {}),
            ("ssm:PutParameter", [CONTROL, PINNED], {}),
            ("ssm:GetParameter", [PINNED], {}),
            ("cloudwatch:PutMetricData", [ANY], {}),
            ("cloudwatch:GetMetricData", [ANY], {}),
            ("ecs:UpdateService", [STABLE, CANARY], {}),
            ("s3:GetObject", [JOURNAL], {}),
            ("s3:PutObject", [f"{PAYLOADS}/large/1"], {}),
            ("s3:DeleteObject", [f"{PAYLOADS}/large/1"], {}),
            ("ecs:UpdateTaskProtection", [arn("ecs", "task/payments/0123456789abcdef")], {}),
            ("logs:PutLogEvents", [arn("logs", "log-group:/ecs/orders-worker:log-stream:worker/1")], {}),
        ],
    ),
    "ExecutionRole": (
        "service",
        [
            ("ecr:GetAuthorizationToken", [ANY], {}),
            *((action, [WORKER_IMAGES], {}) for action in PULL),
            ("logs:CreateLogStream", [arn("logs", "log-group:/ecs/orders-worker:log-stream:worker/1")], {}),
            ("logs:PutLogEvents", [arn("logs", "log-group:/ecs/orders-worker:log-stream:worker/1")], {}),
        ],
        [
            ("ecr:PutImage", [WORKER_IMAGES], {}),
            ("ecr:BatchGetImage", [arn("ecr", "repository/payments")], {}),
            ("logs:PutLogEvents", [arn("logs", "log-group:/ecs/payments:log-stream:worker/1")], {}),
            ("logs:CreateLogGroup", [arn("logs", "log-group:/ecs/orders-worker")], {}),
            ("sqs:ReceiveMessage", [MAIN], {}),
            ("ssm:GetParameters", [CONTROL], {}),
        ],
    ),
    "WatchdogRole": (
        "release-safety",
        [
            *(row for name, row in TOOL_CALLS.items() if name not in NOT_OF_THE_WATCHDOG),
            JOURNAL_MISSING,
            ("logs:PutLogEvents", [arn("logs", "log-group:/aws/lambda/orders-watchdog:log-stream:1")], {}),
            ("sqs:SendMessage", [arn("sqs", "orders-watchdog-dlq")], {}),
        ],
        [
            ("ecs:RegisterTaskDefinition", [ANY], {}),
            ("cloudwatch:PutMetricData", [ANY], NAMESPACE),
            ("ec2:DescribeSubnets", [ANY], {}),
            ("iam:PassRole", [role("orders-worker-task-us-east-1")], TO_TASKS),
            ("sqs:SendMessage", [MAIN, HANDOVER, DEAD], {}),
            ("sqs:ReceiveMessage", [MAIN, HANDOVER, DEAD], {}),
        ],
    ),
    "ReleaseToolPolicy": (
        "release-safety",
        [
            *TOOL_CALLS.values(),
            JOURNAL_MISSING,
            ("iam:PassRole", [role("orders-worker-task-us-east-1"), role("orders-worker-execution-us-east-1")], TO_TASKS),
            ("sqs:GetQueueAttributes", [MAIN, HANDOVER, DEAD], {}),
            ("sqs:ReceiveMessage", [DEAD], {}),
            ("sqs:DeleteMessage", [DEAD], {}),
            ("sqs:ChangeMessageVisibility", [DEAD], {}),
            ("sqs:SendMessage", [MAIN, HANDOVER], {}),
            ("sqs:ListDeadLetterSourceQueues", [DEAD], {}),
            # Without EC2's SDK: not found by its name in the source.
            ("ec2:DescribeSubnets", [ANY], {}),
        ],
        [
            ("iam:PassRole", [role("orders-worker-task-us-east-1")], {"iam:PassedToService": "ec2.amazonaws.com"}),
            ("sqs:ReceiveMessage", [MAIN, HANDOVER], {}),
            ("sqs:DeleteMessage", [MAIN, HANDOVER], {}),
            ("sqs:SendMessage", [DEAD], {}),
            ("application-autoscaling:DeleteScalingPolicy", [TARGET], {}),
            ("cloudwatch:DeleteAlarms", [arn("cloudwatch", "alarm:orders-canary-failing")], {}),
            ("cloudwatch:PutMetricData", [ANY], {}),
            ("ec2:DescribeInstances", [ANY], {}),
        ],
    ),
    "TestRole": (
        "pipeline",
        [("s3:GetObject", [ARTIFACT], {}), ("logs:PutLogEvents", [BUILD_LOG], {})],
        [("s3:PutObject", [ARTIFACT], {}), ("ecr:PutImage", [WORKER_IMAGES], {}), ("ecs:UpdateService", [STABLE, CANARY], {})],
    ),
    "ImageRole": (
        "pipeline",
        [
            ("s3:GetObject", [ARTIFACT], {}),
            ("s3:PutObject", [ARTIFACT], {}),
            ("ecr:GetAuthorizationToken", [ANY], {}),
            *((action, [WORKER_IMAGES, CANARY_IMAGES], {}) for action in PUSH),
        ],
        [
            ("ecr:PutImage", [arn("ecr", "repository/payments")], {}),
            ("ecr:BatchDeleteImage", [WORKER_IMAGES], {}),
            ("ecs:UpdateService", [STABLE, CANARY], {}),
        ],
    ),
    "CanaryRole": (
        "pipeline",
        [("s3:GetObject", [ARTIFACT], {}), ("s3:PutObject", [ARTIFACT], {}), *((action, [CANARY_IMAGES], {}) for action in PULL)],
        [("ecr:PutImage", [WORKER_IMAGES, CANARY_IMAGES], {}), ("codebuild:StartBuild", [arn("codebuild", "project/orders-test")], {})],
    ),
    "PipelineRole": (
        "pipeline",
        [
            ("codebuild:StartBuild", [arn("codebuild", "project/orders-test"), arn("codebuild", "project/orders-canary")], {}),
            ("codebuild:BatchGetBuilds", [arn("codebuild", "project/orders-test")], {}),
            ("s3:PutObject", [ARTIFACT], {}),
            ("s3:GetObject", ["arn:aws:s3:::orders-source/source.zip"], {}),
        ],
        [
            ("codebuild:StartBuild", [arn("codebuild", "project/payments-test")], {}),
            ("s3:GetObject", ["arn:aws:s3:::orders-source/other.zip"], {}),
            ("ecs:UpdateService", [STABLE, CANARY], {}),
            ("iam:PassRole", [role("orders-worker-task-us-east-1")], TO_TASKS),
        ],
    ),
    "SourceChangedRole": (
        "pipeline",
        [("codepipeline:StartPipelineExecution", [arn("codepipeline", "orders")], {})],
        [("codepipeline:StartPipelineExecution", [arn("codepipeline", "payments")], {})],
    ),
}


def operations(service):
    """Every operation of a service, as a Rust SDK spells it."""
    model = botocore.session.get_session().get_service_model(service)
    return {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in model.operation_names}


# Crate of an SDK, after `aws_sdk_`: botocore's name of the service.
SERVICES = {
    "applicationautoscaling": "application-autoscaling",
    "cloudwatch": "cloudwatch",
    "ecs": "ecs",
    "s3": "s3",
    "sqs": "sqs",
    "ssm": "ssm",
}


def calls_in_source(source, but=()):
    """The SDK operations that a crate calls: `.receive_message()` and the like, in files that import an SDK."""
    found = set()
    for path in source.rglob("*.rs"):
        if any(part.removesuffix(".rs") in but for part in path.relative_to(source).parts):
            continue
        text = path.read_text()
        for crate, service in SERVICES.items():
            if f"aws_sdk_{crate}" in text:
                called = set(re.findall(r"\.([a-z][a-z0-9_]*)\(\)", text))
                found |= called & operations(service)
    return found


def unlisted_calls():
    """Calls in the source that no row above knows."""
    worker = calls_in_source(ROOT / "worker" / "src") - set(WORKER_CALLS) - NOT_OF_THE_SERVICE
    # The demo makes its queues on a server of its own.
    tool = calls_in_source(ROOT / "deploy" / "canary" / "src", but={"demo", "tests", "fake"}) - set(TOOL_CALLS)
    return sorted(worker) + sorted(tool)
