#!/usr/bin/env python3
"""An application for the queue worker's handler `http`, with nothing but Python's standard library (3.9 or newer).

    PORT=8080 python3 worker/examples/application.py
    WORKER__HANDLER__KIND=http WORKER__HTTP__URL=http://127.0.0.1:8080/messages WORKER__HTTP__READY_PATH=/healthz worker

A message is an order in JSON: {"order_id": "o-1", "quantity": 2}. With "stock": "unknown" the stock system is down at the
order's first attempt. The status of the answer is the outcome; docs/handlers.md has them all. With the setting
WORKER__HTTP__REASONS=bad_order its own reason counts apart.
"""

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

done = set()  # what a real application keeps in its database, in the transaction that does the work
lock = threading.Lock()


class Bad(Exception):
    """No attempt can ever do this order."""


class Unavailable(Exception):
    """A dependency is down, which is not the message's fault."""


def handle(order, message_id, attempt):
    """Does the work, once for each id, and says whether it was a large order."""
    if not isinstance(order, dict) or not isinstance(order.get("order_id"), str):
        raise Bad("order_id is missing; expected a text")
    quantity = order.get("quantity")
    if not isinstance(quantity, int) or quantity < 1:
        raise Bad(f"quantity is {quantity!r}; expected a whole number from 1")
    if order.get("stock") == "unknown" and attempt == 1:
        raise Unavailable("the stock system does not answer")
    with lock:
        done.add(message_id)
    return quantity > 100


class Messages(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps the worker's connections

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        # The same id when a message comes again, also after it was copied to another queue and back.
        message_id = self.headers["X-Queue-Worker-Original-Message-Id"]
        if message_id in done:
            return self.answer(204)
        try:
            large = handle(json.loads(body), message_id, int(self.headers["X-Queue-Worker-Attempt"]))
        except json.JSONDecodeError as error:
            return self.answer(422, str(error), {"X-Queue-Worker-Reason": "undecodable"})
        except Bad as error:
            return self.answer(422, str(error), {"X-Queue-Worker-Reason": "bad_order"})
        except Unavailable as error:
            return self.answer(503, str(error), {"Retry-After": "1"})
        # A quality signal: should a new release take many more orders for large ones, the judge sees it.
        return self.answer(204, headers={"X-Queue-Worker-Signals": "large=" + ("bad" if large else "ok")})

    def do_GET(self):
        self.answer(200 if self.path == "/healthz" else 404)

    def answer(self, status, text="", headers=None):
        body = text.encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        """No line for each request: the worker tells what failed, and counts the rest."""


def main():
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Messages)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    print(f"serving on http://127.0.0.1:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except (KeyboardInterrupt, SystemExit):
        print(f"stopped; {len(done)} orders done", flush=True)


main()
