#!/bin/sh
# Run by LocalStack's container once it is ready: the queues of the project, unless none are wanted.
set -eu
[ "${LOCALSTACK_QUEUES:-yes}" = yes ] || exit 0
exec python3 /opt/queue-worker/queues.py apply
