#!/usr/bin/env bash
# Takes a release through its plan on Amazon ECS and passes the verdict on: what the pipeline runs, and anyone can.
# `deploy/pipeline/canary.sh --help` says how.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
    cat <<'TEXT'
Usage: deploy/pipeline/canary.sh

Registers the release as a revision of the task definition, rolls it out by the plan, and leaves report.html, report.json and
summary.txt in the directory `report`. Started again with the same release it goes on where it was.

From the environment:
  RELEASE           name of the release, such as 1.4.2
  WORKER_IMAGE      its image, REPOSITORY@sha256:DIGEST
  CANARY_APP        name of the application: services CANARY_APP-stable and CANARY_APP-canary
  CANARY_JOURNAL    s3://BUCKET/FOLDER/journal.json (output JournalUri of release-safety)
  CANARY_PLAN       the plan, a TOML file (default: deploy/plans/usual.toml)
  CANARY_CLUSTER    the cluster (default: named as the application)
  CANARY_IMAGE      image of the release tool, run with Docker; without it, the program `canary` on the PATH, or CANARY_BIN
  CANARY_REPORT     where the report goes (default: report)
  CANARY_SETTINGS   more lines for [fleet] of canary.toml, such as ignored_alarms = ["orders-oldest-message"]
Region and credentials are those of the AWS SDKs.

Exit: 0 promoted, 1 error, 3 rolled back, 4 held, 64 wrong usage.
TEXT
}

fail() {
    local status=$1
    shift
    printf 'canary.sh: %s\n' "$*" >&2
    exit "$status"
}

# NAME PATTERN EXPECTED: a variable of the environment.
check() {
    [[ ${!1:-} =~ $2 ]] || fail 64 "$1 is '${!1:-}'; expected $3"
}

check_environment() {
    check RELEASE '^[A-Za-z0-9._+:@/-]{1,128}$' "1 to 128 of A-Z a-z 0-9 . _ - + : @ /"
    check WORKER_IMAGE '^[^@[:space:]]+@sha256:[0-9a-f]{64}$' "an image by digest, REPOSITORY@sha256:DIGEST"
    check CANARY_APP '^[a-z][a-z0-9-]{0,29}[a-z0-9]$' "2 to 31 of a-z 0-9 -, the first a letter, the last no hyphen"
    check CANARY_JOURNAL '^s3://[^/[:space:]"]+/[^[:space:]"]+/[^/[:space:]"]+$' "s3://BUCKET/FOLDER/journal.json"
    plan=${CANARY_PLAN:-$here/../plans/usual.toml}
    [[ -f $plan ]] || fail 64 "CANARY_PLAN is '$plan'; expected a file"
    cluster=${CANARY_CLUSTER:-$CANARY_APP}
    report=${CANARY_REPORT:-report}
    [[ -n ${CANARY_IMAGE:-} ]] || command -v "${CANARY_BIN:-canary}" >/dev/null ||
        fail 64 "neither CANARY_IMAGE is set nor is there a program '${CANARY_BIN:-canary}'; expected one of them"
}

write_settings() {
    mkdir -p "$report"
    report=$(cd "$report" && pwd)
    cp "$plan" "$report/plan.toml"
    cat >"$report/canary.toml" <<TOML
[fleet]
kind = "ecs"
app = "$CANARY_APP"
cluster = "$cluster"
journal = "$CANARY_JOURNAL"
${CANARY_SETTINGS:-}
TOML
}

# Becomes the release tool, with its files in $report: in a subshell, whose process is then the tool's, and gets its signals.
become_canary() {
    if [[ -z ${CANARY_IMAGE:-} ]]; then
        cd "$report" || exit 1
        exec "${CANARY_BIN:-canary}" "$@"
    fi
    local variable
    local -a options=(--rm --init --network host --user "$(id -u):$(id -g)" --volume "$report:/report" --workdir /report)
    # Whatever credentials there are: a container's, a web identity's, plain ones. By name, so that no value shows in a list of processes.
    while IFS= read -r variable; do
        options+=(--env "$variable")
    done < <(compgen -e | grep -E '^(AWS_|RUST_LOG$)')
    exec docker run "${options[@]}" "$CANARY_IMAGE" "$@"
}

# A signal goes to the tool, which leaves the rollout in order for the next one.
run_rollout() {
    local tool status=0
    become_canary rollout --config canary.toml --plan plan.toml --release "$RELEASE" --image "$WORKER_IMAGE" --fleet ecs --take-over &
    tool=$!
    # shellcheck disable=SC2064 # the process of now
    trap "kill -TERM $tool 2>/dev/null || true" TERM INT
    # A signal ends the first wait; the tool's own end ends the other.
    wait "$tool" || status=$?
    while kill -0 "$tool" 2>/dev/null; do
        status=0
        wait "$tool" || status=$?
    done
    trap - TERM INT
    return "$status"
}

write_report() {
    (become_canary report --journal "$CANARY_JOURNAL") >"$report/summary.txt" ||
        printf 'no report could be made\n' >"$report/summary.txt"
    (become_canary report --journal "$CANARY_JOURNAL" --html report.html --json) >"$report/report.json" || true
    cat "$report/summary.txt"
    if [[ -n ${GITHUB_STEP_SUMMARY:-} ]]; then
        # shellcheck disable=SC2016 # backticks of Markdown
        printf '```\n%s\n```\n' "$(cat "$report/summary.txt")" >>"$GITHUB_STEP_SUMMARY"
    fi
}

main() {
    if (($#)); then
        [[ $1 == --help || $1 == -h ]] && usage && exit 0
        fail 64 "unknown argument '$1'; everything comes from the environment, see --help"
    fi
    check_environment
    write_settings
    local status=0
    run_rollout || status=$?
    write_report
    case $status in
        0) printf 'canary.sh: %s is promoted\n' "$RELEASE" ;;
        3) printf 'canary.sh: %s is rolled back\n' "$RELEASE" ;;
        4) printf 'canary.sh: %s is held; canary promote, resume or abort\n' "$RELEASE" ;;
        *) printf 'canary.sh: the release tool ended with %s; the same command goes on with the rollout\n' "$status" ;;
    esac
    exit "$status"
}

main "$@"
