"""Starts LocalStack detached from its caller; run by `localstack/start` with the environment's own Python.

    launch.py PORT LISTEN LOG PID_FILE DATA_DIRECTORY

The new process leads a session of its own and holds nothing that its caller had open: no terminal, no pipe of a test
harness, no lock. It writes its pid itself before it becomes LocalStack, so that it is never there without a pid file.
"""

import os
import sys

KEPT = ("HOME", "PATH", "LANG", "LC_ALL", "TMPDIR", "TZ", "USER")

# LocalStack's own settings. What the caller has set of these wins; nothing else of the caller's environment goes in,
# since an AWS_ENDPOINT_URL or DEBUG meant for the caller's work would change LocalStack's.
DEFAULTS = {
    "DISABLE_EVENTS": "1",  # no usage reports
    "SKIP_SSL_CERT_DOWNLOAD": "1",  # plain HTTP on loopback: no certificate to fetch
    "DNS_ADDRESS": "0",  # no name server on port 53, and /etc/resolv.conf stays as it is
    "LS_LOG": "warning",  # a line per request is a gigabyte after a benchmark
    "SQS_CLOUDWATCH_METRICS_REPORT_INTERVAL": "60",  # seconds, as on AWS; here to be overridden
}


def main(port, listen, log, pid_file, data):
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    environment.update({name: os.environ.get(name) or value for name, value in DEFAULTS.items()})
    environment.update(
        GATEWAY_LISTEN=listen,
        # In a container it would otherwise take the container for its own image, and write to /var/lib and /etc.
        OVERRIDE_IN_DOCKER="0",
        FILESYSTEM_ROOT=data,
    )
    read_end, write_end = os.pipe()
    if os.fork():
        os.close(write_end)
        if not os.read(read_end, 1):
            sys.exit("launch.py: the process ended before it could write its pid")
        return
    os.setsid()
    os.chdir(data)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    partial = f"{pid_file}.{os.getpid()}"
    with open(partial, "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    os.replace(partial, pid_file)
    os.write(write_end, b".")
    os.closerange(3, 1024)
    # The last argument is read by nobody; `localstack/stop` knows the process by it.
    marker = f"queue-worker-localstack:{port}"
    os.execve(sys.executable, [sys.executable, "-I", "-m", "localstack.runtime.main", marker], environment)


if __name__ == "__main__":
    main(*sys.argv[1:])
