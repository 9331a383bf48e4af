# shellcheck shell=bash disable=SC2154
# What deploy/tests/emulators and deploy/tests/rollouts share: an environment with ministack, and ministack itself. To be sourced, with
# `name`, `here` and `cache` set.

say() { printf '%s: %s\n' "$name" "$*"; }

fail() {
    local status=$1
    shift
    printf '%s: %s\n' "$name" "$*" >&2
    exit "$status"
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[1-9].*/bin/python3; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail 69 "no Python 3.11 or newer that can make environments; name one: PYTHON=/path/to/python3 deploy/tests/$name"
}

# The directory carries the hash of the pins, so that other pins get another one. The marker is written last.
build_environment() {
    environment=$cache/emulators-$(cksum <"$here/requirements.lock" | cut -d ' ' -f 1)
    [[ ! -f $environment/complete ]] || return 0
    local python
    python=$(find_python)
    say "building $environment"
    rm -rf "$environment"
    "$python" -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet --require-hashes --no-deps --no-input --disable-pip-version-check \
        --requirement "$here/requirements.lock"
    touch "$environment/complete"
}

free_port() {
    "$environment/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# shellcheck disable=SC2317 # called by the trap
stop_ministack() {
    if [[ -n ${ministack:-} ]]; then
        kill "$ministack" 2>/dev/null || true
        wait "$ministack" 2>/dev/null || true
    fi
}

# start_ministack ADDRESS [VARIABLE=VALUE... PROGRAM...]: on a free port, from the directory $scratch; where it is stands in $endpoint.
# Without Docker, so that tasks are simulated, unless a program is named.
start_ministack() {
    local port deadline bind=$1
    local -a command=("${@:2}")
    ((${#command[@]})) || command=(DOCKER_HOST=unix:///nonexistent "$environment/bin/ministack")
    port=$(free_port)
    (cd "$scratch" && exec env GATEWAY_PORT="$port" BIND_HOST="$bind" MINISTACK_HOST="$bind" "${command[@]}" >"$scratch/log" 2>&1) &
    ministack=$!
    deadline=$((SECONDS + 60))
    until (exec 3<>"/dev/tcp/$bind/$port") 2>/dev/null; do
        if ! kill -0 "$ministack" 2>/dev/null || ((SECONDS > deadline)); then
            tail -n 20 "$scratch/log" >&2
            fail 1 "ministack did not answer on $bind:$port; the lines above are its log"
        fi
        read -rt 0.2 <> <(:) || true
    done
    # shellcheck disable=SC2034 # for whoever sources this
    endpoint=http://$bind:$port
}
