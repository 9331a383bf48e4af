#!/usr/bin/env bash
# Tests localstack/start, localstack/stop and localstack/queues.py for real, on a port of their own (LOCALSTACK_TEST_PORT,
# 4595), so that a LocalStack that is in use is not disturbed. About 15 s once the Python environment is there.
# With --slow also: an environment whose building was killed is mended (two more builds, in a cache directory of its own).
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
start=$root/localstack/start
stop=$root/localstack/stop
export LOCALSTACK_PORT=${LOCALSTACK_TEST_PORT:-4595}
export LOCALSTACK_ENDPOINT=http://127.0.0.1:$LOCALSTACK_PORT
unset PYTHON AWS_REGION AWS_DEFAULT_REGION
cache=${XDG_CACHE_HOME:-$HOME/.cache}/queue-worker
pid_file=$cache/localstack-$LOCALSTACK_PORT.pid
scratch=$(mktemp -d)
passed=0 failed=0 status=0 output=''

cleanup() {
    "$stop" >/dev/null 2>&1
    jobs -p | while read -r job; do kill "$job" 2>/dev/null; done
    rm -rf "$scratch"
}
trap cleanup EXIT

# run COMMAND...: its exit code and both its outputs. Ends when the command closes its outputs, so a LocalStack that kept
# them open would show as a command that runs into the 120 s.
run() {
    output=$(timeout 120 "$@" 2>&1 </dev/null)
    status=$?
}

# expect NAME STATUS TEXT: about what `run` ran last.
expect() {
    if [[ $status == "$2" && $output == *"$3"* ]]; then
        ok "$1"
    else
        not_ok "$1" "expected exit $2 and '$3'; got exit $status and: $output"
    fi
}

ok() { passed=$((passed + 1)) && printf 'ok      %s\n' "$1"; }

not_ok() { failed=$((failed + 1)) && printf 'FAILED  %s\n        %s\n' "$1" "$2"; }

# `run sqs EXPRESSION`: a Python expression with `sqs`, the client of queues.py.
cat >"$scratch/sqs" <<EOF
#!/usr/bin/env python3
import os, sys
sys.dont_write_bytecode = True
sys.path.insert(0, "$root/localstack")
import queues
sqs = queues.Sqs(os.environ["LOCALSTACK_ENDPOINT"], "us-east-1")
print(eval(sys.argv[1]))
EOF
chmod +x "$scratch/sqs"
PATH=$scratch:$PATH

test_arguments() {
    run "$start" --help && expect "help says how to use it" 0 "Usage: localstack/start"
    run "$start" --fast && expect "an unknown flag is named" 64 "unknown argument '--fast'"
    run "$start" --docker --venv && expect "two ways exclude each other" 64 "exclude each other"
    run "$start" --docker --environment && expect "Docker has no environment" 64 "--docker uses none"
    run "$start" --wait soon && expect "a wait that is no number is named" 64 "--wait is 'soon'"
    run "$stop" now && expect "stop names an unknown argument" 64 "unknown argument 'now'"
    run env LOCALSTACK_PORT=66000 "$start" && expect "a port out of range is named" 64 "LOCALSTACK_PORT is '66000'"
    run python3 "$root/localstack/queues.py" frobnicate && expect "queues.py names a wrong command" 64 "got frobnicate"
}

test_missing_means() {
    run env PYTHON=/nonexistent/python "$start" --venv
    expect "a PYTHON that is not there is named" 69 "PYTHON=/nonexistent/python does not run; expected a Python 3.13"
    printf '#!/bin/sh\necho is 3.12.1\nexit 1\n' >"$scratch/python3.12" && chmod +x "$scratch/python3.12"
    run env PYTHON="$scratch/python3.12" "$start" --venv
    expect "a PYTHON of the wrong version is named" 69 "is 3.12.1; expected a Python 3.13"
    run env DOCKER_HOST=unix:///nonexistent.sock "$start" --docker
    expect "--docker without an engine says so" 69 "--docker: "
}

test_stop_of_nothing() {
    run "$stop" && expect "stop without a LocalStack is no error" 0 "nothing to stop"
    # A pid file that names a stranger, as after a restart of the machine.
    sleep 300 &
    local stranger=$!
    printf '%s\n' "$stranger" >"$pid_file"
    run "$stop" && expect "stop takes no stranger for LocalStack" 0 "nothing to stop"
    if kill -0 "$stranger" 2>/dev/null; then ok "the stranger lives"; else not_ok "the stranger lives" "it was killed"; fi
    kill "$stranger" 2>/dev/null
}

test_taken_port() {
    local server
    python3 -m http.server --bind 127.0.0.1 "$LOCALSTACK_PORT" >/dev/null 2>&1 &
    server=$!
    until (exec 3<>"/dev/tcp/127.0.0.1/$LOCALSTACK_PORT") 2>/dev/null; do kill -0 "$server" || break; done
    run "$start" --venv && expect "a port that something else has is named" 1 "port $LOCALSTACK_PORT is taken"
    run "$stop" && expect "stop leaves what it did not start" 0 "was not started by localstack/start"
    kill "$server" && wait "$server" 2>/dev/null
}

test_parallel_start() {
    timeout 300 "$start" --venv >"$scratch/one" 2>&1 </dev/null &
    local one=$!
    timeout 300 "$start" --venv >"$scratch/two" 2>&1 </dev/null &
    local two=$!
    wait "$one" && wait "$two"
    status=$? output=$(cat "$scratch/one" "$scratch/two")
    expect "two starts at the same time both succeed" 0 "answers on $LOCALSTACK_ENDPOINT"
    local pids
    pids=$(grep -oh 'pid [0-9]*' "$scratch/one" "$scratch/two" | sort -u)
    if [[ $(wc -l <<<"$pids") == 1 ]]; then ok "they share one LocalStack"; else not_ok "they share one LocalStack" "$pids"; fi
    if grep -q waiting "$scratch/one" "$scratch/two"; then ok "one waited"; else not_ok "one waited" "$output"; fi
}

test_second_start() {
    local began=$SECONDS
    run "$start" && expect "a second start finds the queues" 0 "orders           there"
    if ((SECONDS - began <= 5)); then ok "and is quick"; else not_ok "and is quick" "$((SECONDS - began)) s"; fi
    run env DOCKER_HOST=unix:///nonexistent.sock "$start" --docker
    expect "--docker beside a running one says what is there" 1 "port $LOCALSTACK_PORT is served already (venv)"
}

test_queues() {
    local dlq_arn=arn:aws:sqs:us-east-1:000000000000:orders-dlq
    run python3 "$root/localstack/queues.py" check && expect "the queues are as queues.json says" 0 "orders-handover  there"
    # Apart from queues.json, what the project relies on.
    run sqs 'sqs.attributes(sqs.url("orders"))'
    expect "orders: visibility timeout" 0 "'VisibilityTimeout': '30'"
    expect "orders: long polling" 0 "'ReceiveMessageWaitTimeSeconds': '20'"
    expect "orders: redrive" 0 "$dlq_arn"
    run sqs 'sqs.attributes(sqs.url("orders-dlq"))'
    expect "orders-dlq: 14 days" 0 "'MessageRetentionPeriod': '1209600'"
    expect "orders-dlq: names its sources" 0 "us-east-1:000000000000:orders-handover"
    run sqs 'sqs.call("SetQueueAttributes", QueueUrl=sqs.url("orders"), Attributes={"VisibilityTimeout": "7"})'
    run python3 "$root/localstack/queues.py" check && expect "a changed attribute shows" 1 "VisibilityTimeout: 7 -> 30"
    run "$start" && expect "start mends it" 0 "orders           mended"
    run sqs 'sqs.call("DeleteQueue", QueueUrl=sqs.url("orders-handover"))'
    run "$start" --no-queues && expect "--no-queues makes none" 0 "answers on"
    run python3 "$root/localstack/queues.py" check && expect "a missing queue shows" 1 "orders-handover  missing"
    run "$start" && expect "start makes it anew" 0 "orders-handover  created"
}

test_loopback() {
    local address
    address=$(hostname -I 2>/dev/null | tr ' ' '\n' | grep -m1 -E '^[0-9]+\.') || return 0
    if grep -q . /proc/net/if_inet6 2>/dev/null; then
        run bash -c "exec 3<>/dev/tcp/$address/$LOCALSTACK_PORT"
        expect "it does not listen on other interfaces" 1 "refused"
    fi
}

test_end() {
    kill -KILL "$(cat "$pid_file")"
    run "$start" --venv && expect "start after a kill -9" 0 "orders           created"
    run "$stop" && expect "stop" 0 "stopped (pid "
    run "$stop" && expect "stop again" 0 "nothing to stop"
}

test_half_built() {
    local -x XDG_CACHE_HOME=$scratch/cache
    timeout --signal KILL 15 "$start" --venv >/dev/null 2>&1 </dev/null
    output=$(timeout 600 "$start" --venv 2>&1 </dev/null) status=$?
    expect "an environment whose building was killed is built anew" 0 "left unfinished"
    run "$stop" && expect "and stopped" 0 "stopped"
}

test_arguments
test_missing_means
test_stop_of_nothing
test_taken_port
test_parallel_start
test_second_start
test_queues
test_loopback
test_end
if [[ ${1:-} == --slow ]]; then test_half_built; fi
printf '\nlocalstack: %d passed, %d failed\n' "$passed" "$failed"
((failed == 0))
