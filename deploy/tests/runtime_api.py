"""Lambda's runtime API, which gives a function its events and takes its answers."""

import http.server
import json
import queue
import threading
import time
import uuid

from application import ACCOUNT, APP, REGION, Failure


class Lambda:
    """The watchdog as Lambda runs it: one process that fetches events from Lambda's runtime API, here, and posts its answers to it.

    Source: "Using the Lambda runtime API for custom runtimes" in the Lambda developer guide.
    """

    API = "/2018-06-01/runtime/"
    ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{APP}-watchdog"

    def __init__(self):
        self.events, self.posts = queue.Queue(), queue.Queue()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def environment(self):
        return {
            "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:%d" % self.server.server_address[1],
            "AWS_LAMBDA_FUNCTION_NAME": f"{APP}-watchdog",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{APP}-watchdog",
            "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[$LATEST]0",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_EXECUTION_ENV": "AWS_Lambda_Image",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_SESSION_TOKEN": "test",
        }

    def handler(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if self.path != outer.API + "invocation/next":
                    return self.answer(404, b"{}")
                request, event = outer.events.get()
                headers = {
                    "Lambda-Runtime-Aws-Request-Id": request,
                    "Lambda-Runtime-Deadline-Ms": str(int(time.time() * 1000) + 60_000),
                    "Lambda-Runtime-Invoked-Function-Arn": outer.ARN,
                    "Lambda-Runtime-Trace-Id": "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
                }
                return self.answer(200, json.dumps(event).encode(), headers)

            def do_POST(self):
                chunked = self.headers.get("Transfer-Encoding") == "chunked"
                body = self.chunks() if chunked else self.rfile.read(int(self.headers["Content-Length"]))
                # First: once the post is known the process may be killed.
                self.answer(202, b'{"status":"OK"}')
                outer.posts.put((self.path.removeprefix(outer.API), json.loads(body)))

            def chunks(self):
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def answer(self, status, body, headers=None):
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        return Handler

    def posted(self, path):
        """What the function posts next, which is to be to this path."""
        try:
            have, body = self.posts.get(timeout=60)
        except queue.Empty as error:
            raise Failure(f"the function posted nothing within 60 s; expected {path}") from error
        if have != path:
            raise Failure(f"the function posted to {have}: {body}; expected {path}")
        return body

    def invoke(self, event, kind="response"):
        """What the function answers to an event."""
        request = str(uuid.uuid4())
        self.events.put((request, event))
        return self.posted(f"invocation/{request}/{kind}")
