# shellcheck shell=bash
# What the commands of a page find when they are run: sourced by the shell that commands.py types into. `given_NAME` brings about
# what a comment `<!-- given: NAME -->` in the page asks for; `the_end` ends whatever was started.

repository=$PWD
tool='' # the release tool in the background
numbers=10

# The world of the runbook: a queue with traffic, a fleet with release 1.0.0, a plan whose steps last, and the variables that its
# commands use.
given_world() {
    cd "$PAGE_DIRECTORY" || return
    export AWS_ENDPOINT_URL=http://127.0.0.1:$FREE_PORT AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
    export LOCALSTACK_ENDPOINT=$AWS_ENDPOINT_URL DLQ=$AWS_ENDPOINT_URL/000000000000/orders-dlq
    export WORKER__QUEUE__NAME=orders WORKER__RELEASE=1.0.0 # for `worker check`
    embedded-sqs --port "$FREE_PORT" >endpoint.log 2>&1 &
    until "$repository/localstack/queues.py" ping 2>/dev/null; do sleep 0.2; done
    "$repository/localstack/queues.py" apply
    "$repository/localstack/orders.py" --rate 200 --poison 500 >orders.log 2>&1 &
    cat >canary.toml <<END
[fleet]
kind = "local"
command = ["worker", "run"]
stable = 2
canary = 1

[environment]
WORKER__QUEUE__NAME = "orders"
WORKER__HANDOVER__URL = "$AWS_ENDPOINT_URL/000000000000/orders-handover"
WORKER__ORDERS__LATENCY = "20ms"
WORKER__QUEUE__WAIT = "1s"
END
    plan 15s
    canary rollout --plan plan.toml --release 1.0.0 --skip-canary "the first release"
    await_worker stable
}

# plan LEAST_TIME: one whose only step lasts at least so long.
plan() {
    cat >plan.toml <<END
schema = 1
name = "runbook"
deadline = "20m"
trickle = "5/s"
[risk]
tolerated_ratio = 3.0
ceiling = "3%"
stretch = "5s"
[[steps]]
share = "20%"
least_time = "$1"
least_messages = 300
[bake]
time = "5s"
share = "10%"
END
}

# journal EXPRESSION: what the journal says, as Python sees it in `j`.
journal() { python3 -c 'import json, sys; j = json.load(open(".canary/journal.json")); print(eval(sys.argv[1]))' "$1" 2>/dev/null; }

# A directory of the page's own, in which paths of the repository are right.
given_elsewhere() {
    cd "$PAGE_DIRECTORY" && ln -sfn "$repository/deploy" deploy
}

# LocalStack with its queues, and the AWS CLI of its environment.
given_localstack() {
    "$repository/localstack/start" || return
    local environment
    for environment in "${XDG_CACHE_HOME:-$HOME/.cache}"/queue-worker/localstack-*/bin; do PATH=$PATH:$environment; done
    shopt -s expand_aliases
}

await() {
    local end=$((SECONDS + 90))
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.2
    done
}

in_step() { [[ $(journal 'j["state"]["phase"]["phase"]') == step ]]; }
is_over() { [[ $(journal 'j["state"]["phase"]["phase"]') == ended ]]; }
is_held() { [[ $(journal 'bool(j["state"]["hold"])') == True ]]; }

# The address of a worker of the service, in WORKER or CANARY.
await_worker() {
    local address
    # shellcheck disable=SC2329 # by await
    has_address() { address=$(journal "next(p['address'] for p in j['measured']['$1']['processes'] if p['state'] == 'ready')"); }
    await has_address "$1" || return
    if [[ $1 == stable ]]; then export WORKER=http://$address; else export CANARY=http://$address; fi
}

# A rollout of a new good release, in its step, driven in the background. One under way is aborted first.
given_step() {
    no_rollout
    plan "${1:-15m}"
    numbers=$((numbers + 1))
    export RELEASE=1.$numbers.0
    canary rollout --plan plan.toml --release "$RELEASE" >tool.log 2>&1 &
    tool=$!
    await in_step && await_worker canary && await is_open
}

# The canary reads the control document every few seconds.
is_open() { curl --silent "$CANARY/evidence?since=9999999999" | grep -q '"paused":false'; }

# A worker of the present release, no rollout under way.
given_worker() {
    no_rollout
    await_worker stable && curl --silent --fail "$WORKER/livez"
}

given_held() {
    given_step && canary pause --why "somebody wants to look" && await is_held
}

given_tool_killed() {
    given_step 15s
    kill -KILL "$tool"
    wait "$tool" 2>/dev/null
    true
}

# The tool died in a step, and its journal is cut off.
given_broken_journal() {
    given_tool_killed
    head --bytes 100 .canary/journal.json >journal.cut && mv journal.cut .canary/journal.json
}

# Release 1.0.0 was stable before the one that is now.
given_promoted() {
    given_step && canary promote --why "for the test" && await is_over
}

given_rolled_back() {
    given_step && no_rollout
}

# Letters of release 2.0.0, which fails everything and hands nothing over: a release without a canary.
given_dead_letters() {
    no_rollout
    WORKER__RELEASE=2.0.0 WORKER__ADMIN__ADDRESS=127.0.0.1:0 WORKER__ORDERS__REJECT_RATIO=1 \
        timeout --signal TERM 5 worker >bad.log 2>&1
    true
}

no_rollout() {
    if [[ -f .canary/journal.json ]] && ! is_over; then canary abort --why "the next one" >>abort.log 2>&1; fi
    [[ -z $tool ]] || wait "$tool" 2>/dev/null
    tool=''
}

# ---- The Compose stack ----------------------------------------------------------------------------------------------

# Nothing of it, not even of a play before this one.
given_compose_afresh() { docker compose --profile '*' down --volumes --timeout 5; }

# Every service that has a health check is healthy, and there are some.
is_healthy() {
    local healths
    healths=$(docker compose ps --all --format '{{.Health}}') && grep -q '^healthy$' <<<"$healths" && ! grep -vqE '^(healthy)?$' <<<"$healths"
}

# Whether a query gives anything now; Prometheus has scraped what is asked for.
holds() {
    curl --silent --fail "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/query" --data-urlencode "query=$1" |
        python3 -c 'import json, sys; sys.exit(not json.load(sys.stdin)["data"]["result"])' 2>/dev/null
}

await_query() {
    await holds "$1" || {
        echo "Prometheus has nothing for: $1"
        return 1
    }
}

given_compose_up() {
    await is_healthy &&
        await_query 'count(up{job="worker"} == 1) == 2' &&
        await_query 'sum(rate(worker_attempts_total{track="stable",outcome="done"}[30s])) > 10' &&
        await_query 'sum(canary_queue_messages{role="main"})'
}

given_compose_canary() {
    await_query 'worker_breaker_opened_total{track="canary",kind="rate"} > 0' &&
        await_query 'sum(worker_handover_results_total{track="stable",result="recovered"}) > 0'
}

given_compose_better() {
    await_query 'sum(worker_attempts_total{track="canary",release="1.2.0",outcome="done"}) > 0'
}

# What the dashboards show of the rollouts: the bad release worked, it is gone, and the one before is up.
given_compose_rolled_back() {
    await_query 'sum(max_over_time(worker_attempts_total{job="fleet",release="1.2.0"}[10m])) > 0' &&
        await_query 'count(up{job="fleet"} == 1) == 3' &&
        await_query 'count(count by (instance) (worker_slots{job="fleet",release="1.1.0"})) == 3' &&
        await_query 'canary_rollout_info{release="1.2.0"}'
}

# Whatever a page has left running.
the_end() {
    if [[ -f canary.toml ]]; then
        no_rollout
        canary fleet stop
    fi
    local job
    for job in $(jobs -p); do kill "$job" 2>/dev/null; done
    wait
}
