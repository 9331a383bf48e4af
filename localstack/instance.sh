# shellcheck shell=bash
# What `start` and `stop` know in common: where an instance of LocalStack has its files, and whether it is ours.
# Sourced; the caller has set `here` to this directory.

: "${here:?is set by the script that sources this}"

# shellcheck disable=SC2034  # used by the scripts that source this
{
    version=4.14.0
    image=localstack/localstack:$version
    port=${LOCALSTACK_PORT:-4566}
    endpoint=http://127.0.0.1:$port
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/queue-worker
    pid_file=$cache/localstack-$port.pid
    log=$cache/localstack-$port.log
    lock=$cache/localstack.lock
}

say() { printf 'localstack: %s\n' "$*"; }

# fail CODE MESSAGE...: one line on stderr, then the end.
fail() {
    local code=$1
    shift
    printf 'localstack: %s\n' "$*" >&2
    exit "$code"
}

check_port() {
    if ! [[ $port =~ ^[1-9][0-9]{0,4}$ ]] || ((port > 65535)); then
        fail 64 "LOCALSTACK_PORT is '$port', expected a port from 1 to 65535"
    fi
}

# bounded SECONDS COMMAND...: the command, ended when the time is over. macOS has no timeout(1), but perl.
bounded() {
    if command -v timeout >/dev/null; then timeout "$@"; else perl -e 'alarm shift; exec @ARGV or exit 127' "$@"; fi
}

# Takes the lock of this cache directory until the script ends: at most SECONDS. Two tests may start at the same time.
take_lock() {
    local seconds=$1
    exec 9>"$lock"
    try_lock && return
    say "another start or stop is at work; waiting for at most ${seconds} s"
    local end=$((SECONDS + seconds))
    until try_lock; do
        ((SECONDS < end)) || fail 1 "another start or stop has held $lock for ${seconds} s; look for a stuck localstack/start"
        sleep 0.2
    done
}

try_lock() {
    if command -v flock >/dev/null; then
        flock -n 9
    else
        perl -e 'use Fcntl ":flock"; open(my $f, ">&=", 9) && flock($f, LOCK_EX | LOCK_NB) or exit 1'
    fi
}

# Prints the pid of the LocalStack that `start` launched on this port, if it lives. A pid file alone proves nothing: after
# a restart of the machine the number may be anybody's, so the process must carry the marker that launch.py gave it.
our_pid() {
    local pid arguments
    [[ -f $pid_file ]] && read -r pid <"$pid_file" && [[ $pid =~ ^[0-9]+$ ]] || return 1
    if [[ -r /proc/$pid/cmdline ]]; then
        arguments=$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null) || return 1
    else
        arguments=$(ps -o args= -p "$pid" 2>/dev/null) || return 1
    fi
    [[ "$arguments " == *" queue-worker-localstack:$port "* ]] && printf '%s\n' "$pid"
}

# Whether something listens on the port.
port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }

# Whether a real call to SQS works. LocalStack's own health page says "available" for services that answer 500 to all.
sqs_answers() {
    local answer
    answer=$(sqs_call 2>/dev/null) && [[ $answer == "HTTP/1.1 200 "* && $answer == *"x-amz-json-1.0"* ]]
}

sqs_call() {
    local answer
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    printf '%s\r\n' "POST / HTTP/1.1" "Host: 127.0.0.1:$port" "Connection: close" "Content-Length: 2" \
        "Content-Type: application/x-amz-json-1.0" "X-Amz-Target: AmazonSQS.ListQueues" \
        "Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0" \
        "" >&3
    printf '{}' >&3
    IFS= read -r -d '' -t 15 answer <&3 || true # ends at the end of the stream, or after 15 s
    printf '%s' "$answer"
}

# Docker Compose for this project; one project a port, so that two instances do not meet.
compose() {
    local project=queue-worker
    ((port == 4566)) || project+=-$port
    LOCALSTACK_PORT=$port docker compose --project-name "$project" --file "$here/../docker-compose.yml" "$@" 9>&-
}

engine_answers() { command -v docker >/dev/null && bounded 10 docker info >/dev/null 2>&1; }

compose_there() { bounded 10 docker compose version >/dev/null 2>&1; }

# Whether this project's container is up, by Compose.
container_runs() {
    local container
    engine_answers && compose_there && container=$(compose ps --quiet --status running localstack 2>/dev/null) && [[ -n $container ]]
}
