#!/usr/bin/env python3
"""Sends orders to the queue `orders`, until SIGTERM or Ctrl-C: the traffic of the Compose stack, and of tests.

    orders.py [--rate 50] [--poison 200] [--count N]

One order in --poison (0: none), by chance, is one that no release can process: it asks for zero pieces. LOCALSTACK_ENDPOINT is where it sends
(default http://127.0.0.1:4566), AWS_REGION to which region (us-east-1). An endpoint that is away is waited for.
Only the standard library. Exit: 0 ended as asked, 64 bad usage.
"""

import argparse
import json
import os
import random
import signal
import sys
import threading
import time

from queues import Refused, Sqs

BATCH = 10  # SQS's most


def order(number, poison):
    # By chance, not every so-many-th: a regular stream into an endpoint that hands out in order could give one worker all of them.
    pieces = 0 if poison and random.random() < 1 / poison else random.randint(1, 5)
    item = {"sku": f"article-{number % 100}", "quantity": pieces, "unit_price_cents": random.randint(100, 9999)}
    return json.dumps({"order_id": f"order-{number}", "customer": f"customer-{number % 1000}", "currency": "EUR", "items": [item]})


def send(sqs, rate, poison, count, stop):
    """Sends `rate` a second in batches; what could not be sent is left out, and said."""
    url, number, due, silent = None, 0, time.monotonic(), True
    while not stop.is_set() and (count is None or number < count):
        size = BATCH if count is None else min(BATCH, count - number)
        try:
            url = url or sqs.url("orders")
            if url is None:
                raise Refused("GetQueueUrl", "no queue", "there is no queue `orders` yet")
            entries = [{"Id": str(index), "MessageBody": order(number + index, poison)} for index in range(size)]
            sqs.call("SendMessageBatch", QueueUrl=url, Entries=entries)
            number += size
            if silent:
                print(f"orders.py: sending {rate:g} orders a second to {url}", flush=True)
            silent = False
        except Refused as refused:
            print(f"orders.py: {refused}; trying again", file=sys.stderr, flush=True)
            url, silent = None, True
            stop.wait(1)
            due = time.monotonic()
        due += size / rate
        # Behind, it does not catch up in a burst.
        due = max(due, time.monotonic() - 1)
        stop.wait(max(0.0, due - time.monotonic()))


def main():
    parser = argparse.ArgumentParser(description="Sends orders to the queue `orders`.")
    parser.add_argument("--rate", type=float, default=50, help="orders a second (50)")
    parser.add_argument("--poison", type=int, default=200, help="one in so many cannot be processed by any release (200; 0: none)")
    parser.add_argument("--count", type=int, help="stop after so many")
    try:
        arguments = parser.parse_args()
        if not 0.1 <= arguments.rate <= 5000:
            parser.error(f"--rate is {arguments.rate:g}, expected a number from 0.1 to 5000")
        if arguments.poison < 0:
            parser.error(f"--poison is {arguments.poison}, expected a number from 0 on")
    except SystemExit as end:
        return 64 if end.code else 0
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    endpoint = os.environ.get("LOCALSTACK_ENDPOINT") or "http://127.0.0.1:4566"
    sqs = Sqs(endpoint, os.environ.get("AWS_REGION") or "us-east-1")
    send(sqs, arguments.rate, arguments.poison, arguments.count, stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
