#!/usr/bin/env python3
"""Makes the queues of queues.json on LocalStack, or shows how far they are from it.

    queues.py apply    create what is missing, mend attributes that differ, say what was there
    queues.py check    change nothing; exit 1 when a queue is missing or an attribute differs
    queues.py names    the names in queues.json, one a line (asks nobody)
    queues.py ping     only whether a call to SQS works

LOCALSTACK_ENDPOINT is where it asks (default http://127.0.0.1:4566), AWS_REGION for which region (us-east-1).
Only the standard library, so that it runs with the container's Python, the environment's, or any other from 3.8 on.
Exit: 0 done, 1 SQS refused or differs, 64 bad usage or bad queues.json.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

DEFINITIONS = Path(__file__).resolve().parent / "queues.json"
TIMEOUT_SECONDS = 30  # the first call loads the service: 2 to 4 s
USAGE = 64


class Refused(Exception):
    """An answer of SQS that is not a success, or none at all."""

    def __init__(self, action, code, message):
        super().__init__(f"SQS {action}: {code}: {message}")
        self.code = code


class Sqs:
    """SQS's JSON protocol, as far as making queues needs it. LocalStack checks no signature."""

    def __init__(self, endpoint, region):
        self.endpoint = endpoint.rstrip("/") + "/"
        self.scope = f"test/20260101/{region}/sqs/aws4_request"

    def call(self, action, **body):
        request = urllib.request.Request(
            self.endpoint,
            data=json.dumps(body).encode(),
            headers={
                "Content-Type": "application/x-amz-json-1.0",
                "X-Amz-Target": f"AmazonSQS.{action}",
                "Authorization": f"AWS4-HMAC-SHA256 Credential={self.scope}, SignedHeaders=host, Signature=0",
            },
        )
        # A proxy of the caller's environment has no business between two ends of loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                detail = json.loads(text)
                code, message = detail["__type"].rsplit("#", 1)[-1], detail.get("message", "")
            except (ValueError, KeyError, AttributeError, TypeError):
                code, message = f"HTTP {error.code}", text[:300]
            raise Refused(action, code, message) from error
        except (OSError, ValueError) as error:
            raise Refused(action, "no answer", f"{self.endpoint}: {error}") from error

    def url(self, name):
        """The queue's URL, or None when there is no such queue."""
        try:
            return self.call("GetQueueUrl", QueueName=name)["QueueUrl"]
        except Refused as refused:
            if refused.code in ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"):
                return None
            raise

    def attributes(self, url):
        return self.call("GetQueueAttributes", QueueUrl=url, AttributeNames=["All"]).get("Attributes", {})


def definitions():
    """The queues of queues.json by name, dead-letter queues first, since the others name them."""
    queues = json.loads(DEFINITIONS.read_text(encoding="utf-8"))["queues"]
    by_name = {queue["name"]: queue for queue in queues}
    for queue in queues:
        named = [queue["redrive"]["dead_letter_queue"]] if "redrive" in queue else []
        for other in named + queue.get("redrive_sources", []):
            if other not in by_name:
                raise ValueError(f"queue {queue['name']!r} names {other!r}, which is not in the file")
    return dict(sorted(by_name.items(), key=lambda item: ("redrive" in item[1], item[0])))


def wanted(queue, arn_of):
    """The attributes that SQS shall show for a queue; policies as values, not as JSON text."""
    attributes = dict(queue.get("attributes", {}))
    if "redrive" in queue:
        attributes["RedrivePolicy"] = {
            "deadLetterTargetArn": arn_of(queue["redrive"]["dead_letter_queue"]),
            "maxReceiveCount": queue["redrive"]["max_receive_count"],
        }
    if "redrive_sources" in queue:
        attributes["RedriveAllowPolicy"] = {
            "redrivePermission": "byQueue",
            "sourceQueueArns": sorted(arn_of(source) for source in queue["redrive_sources"]),
        }
    return attributes


def same(want, have):
    """Whether an attribute of SQS (text) says what is wanted (text, or a policy)."""
    if have is None or isinstance(want, str):
        return want == have
    policy = json.loads(have)
    if "maxReceiveCount" in policy:  # AWS takes and shows it as a number or as text
        policy["maxReceiveCount"] = int(policy["maxReceiveCount"])
    if "sourceQueueArns" in policy:
        policy["sourceQueueArns"] = sorted(policy["sourceQueueArns"])
    return want == policy


def text(value):
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def differences(want, have):
    return {key: value for key, value in want.items() if not same(value, have.get(key))}


def run(sqs, apply):
    """Compares every queue, with `apply` mends it. Returns how many queues are not as they should be."""
    queues = definitions()
    urls = {name: sqs.url(name) for name in queues}
    missing = {name for name, url in urls.items() if url is None}
    if apply:
        for name in queues:
            if name in missing:
                # The policies come below, by when every queue they name is there. Created with the rest, not bare.
                urls[name] = sqs.call("CreateQueue", QueueName=name, Attributes=queues[name].get("attributes", {}))["QueueUrl"]
    have = {name: sqs.attributes(url) for name, url in urls.items() if url}

    def arn_of(name):
        return have[name]["QueueArn"] if name in have else f"(missing queue {name})"

    wrong = 0
    for name, queue in queues.items():
        if name not in have:
            print(f"{name:<16} missing")
            wrong += 1
            continue
        differing = differences(wanted(queue, arn_of), have[name])
        if apply and differing:
            sqs.call("SetQueueAttributes", QueueUrl=urls[name], Attributes={k: text(v) for k, v in differing.items()})
            differing_now = differences(wanted(queue, arn_of), sqs.attributes(urls[name]))
        else:
            differing_now = differing
        state = "created" if name in missing else "mended" if apply and differing else "differs" if differing else "there"
        print(f"{name:<16} {state:<8} {urls[name]}")
        if name not in missing:
            for key, value in differing.items():
                print(f"{'':<16}   {key}: {have[name].get(key, 'not set')} -> {text(value)}")
        wrong += bool(differing_now)
    return wrong


def main(arguments):
    if arguments in (["--help"], ["-h"]):
        print(__doc__.strip())
        return 0
    if len(arguments) != 1 or arguments[0] not in ("apply", "check", "names", "ping"):
        print(f"queues.py: expected one of apply, check, names, ping; got {' '.join(arguments) or 'nothing'}", file=sys.stderr)
        return USAGE
    endpoint = os.environ.get("LOCALSTACK_ENDPOINT") or "http://127.0.0.1:4566"
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    try:
        if arguments == ["names"]:
            print("\n".join(definitions()))
            return 0
        if arguments == ["ping"]:
            Sqs(endpoint, region).call("ListQueues", MaxResults=1)
            return 0
        return 1 if run(Sqs(endpoint, region), apply=arguments == ["apply"]) else 0
    except Refused as refused:
        print(f"queues.py: {refused}", file=sys.stderr)
        return 1
    except (KeyError, TypeError, ValueError, OSError) as error:
        print(f"queues.py: {DEFINITIONS}: {type(error).__name__}: {error}", file=sys.stderr)
        return USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
