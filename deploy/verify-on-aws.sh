#!/usr/bin/env bash
# Checks on AWS what never ran there: the list in deploy/README.md, "What never ran on AWS". For somebody with an account, after
# deploy.sh. `deploy/verify-on-aws.sh --help` says how.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
    cat <<'TEXT'
Usage: deploy/verify-on-aws.sh --app NAME [--cluster NAME] [--rollouts GOOD_IMAGE BAD_IMAGE]

Looks at an installation by deploy.sh and says of each point whether AWS does as is assumed. It changes nothing but: objects under
verify/ in the journal's bucket, two data points of the namespace QueueWorker, and a call of the watchdog by hand.

  --app NAME             name of the application
  --cluster NAME         the cluster (default: named as the application)
  --rollouts GOOD BAD    also rolls GOOD out and expects it promoted (exit 0), then BAD and expects it rolled back (exit 3). Images
                         by digest. There must be traffic: a hundred messages a second or so. Takes about an hour.

Needs the AWS CLI 2, jq, and for --rollouts what deploy/pipeline/canary.sh needs.
Exit: 0 all as assumed, 1 something is not, 64 wrong usage, 69 a tool is missing.
TEXT
}

fail() {
    local status=$1
    shift
    printf 'verify-on-aws.sh: %s\n' "$*" >&2
    exit "$status"
}

app='' cluster='' good='' bad='' passed=0 failed=0

parse_arguments() {
    while (($#)); do
        case $1 in
            --help | -h) usage && exit 0 ;;
            --app) app=${2:-} && shift ;;
            --cluster) cluster=${2:-} && shift ;;
            --rollouts) good=${2:-} bad=${3:-} && shift 2 ;;
            *) fail 64 "unknown argument '$1'; deploy/verify-on-aws.sh --help lists what there is" ;;
        esac
        shift || fail 64 "a value is missing at the end"
    done
    [[ $app =~ ^[a-z][a-z0-9-]{0,29}[a-z0-9]$ ]] || fail 64 "--app is '$app'; expected the name that deploy.sh was given"
    cluster=${cluster:-$app}
    for tool in aws jq; do command -v "$tool" >/dev/null || fail 69 "$tool is not installed"; done
}

# WHAT COMMAND…: a point that holds if the command succeeds.
point() {
    local what=$1 answer
    shift
    if answer=$("$@" 2>&1); then
        passed=$((passed + 1))
        printf 'ok      %s\n' "$what"
    else
        failed=$((failed + 1))
        printf 'FAILED  %s\n' "$what"
        printf '          %s\n' "${answer//$'\n'/$'\n'          }"
    fi
}

output() {
    aws cloudformation describe-stacks --stack-name "$app-$1" --query "Stacks[0].Outputs[?OutputKey=='$2'].OutputValue" --output text
}

stack_is_complete() {
    local status
    status=$(aws cloudformation describe-stacks --stack-name "$app-$1" --query 'Stacks[0].StackStatus' --output text)
    echo "$status"
    [[ $status == *_COMPLETE && $status != *ROLLBACK* ]]
}

# What the templates make has not drifted: what CloudFormation accepted is what is there.
pinned_revision_runs() {
    local pinned running
    pinned=$(aws ssm get-parameter --name "/$app/canary/stable-task-definition" --query Parameter.Value --output text)
    running=$(aws ecs describe-services --cluster "$cluster" --services "$app-stable" --query 'services[0].taskDefinition' --output text)
    echo "pinned $pinned, running $running"
    [[ $pinned == arn:* && $pinned == "$running" ]]
}

tasks_are_healthy() {
    local answer from unwell
    local -a tasks
    answer=$(aws ecs list-tasks --cluster "$cluster" --service-name "$app-stable" --query taskArns --output json) || return 1
    mapfile -t tasks < <(jq -r '.[]' <<<"$answer")
    ((${#tasks[@]} > 0)) || { echo "no task runs" && return 1; }
    # DescribeTasks takes a hundred.
    for ((from = 0; from < ${#tasks[@]}; from += 100)); do
        answer=$(aws ecs describe-tasks --cluster "$cluster" --tasks "${tasks[@]:from:100}" \
            --query 'tasks[].{task:taskArn,status:lastStatus,health:healthStatus}' --output json) || return 1
        unwell=$(jq '[.[] | select(.status != "RUNNING" or .health != "HEALTHY")]' <<<"$answer")
        [[ $unwell == "[]" ]] || { echo "$unwell" && return 1; }
    done
}

journal_writes_are_conditional() {
    local bucket key="$app/verify/conditional" etag
    bucket=$(output release-safety JournalUri | sed 's|^s3://||; s|/.*||')
    # What lies there may be of an earlier run.
    if etag=$(aws s3api head-object --bucket "$bucket" --key "$key" --query ETag --output text 2>/dev/null); then
        aws s3api put-object --bucket "$bucket" --key "$key" --if-match "$etag" >/dev/null || return 1
    else
        aws s3api put-object --bucket "$bucket" --key "$key" --if-none-match '*' >/dev/null || return 1
    fi
    if aws s3api put-object --bucket "$bucket" --key "$key" --if-none-match '*' >/dev/null 2>&1; then
        echo "a second first write was accepted" && return 1
    fi
    if aws s3api put-object --bucket "$bucket" --key "$key" --if-match '"0"' >/dev/null 2>&1; then
        echo "a write on another version was accepted" && return 1
    fi
}

autoscaling_can_be_suspended() {
    local target
    target=$(aws application-autoscaling describe-scalable-targets --service-namespace ecs \
        --resource-ids "service/$cluster/$app-stable" --query 'ScalableTargets[0]' --output json) || return 1
    echo "$target"
    jq -e '.SuspendedState.DynamicScalingInSuspended == false and .MaxCapacity > .MinCapacity' <<<"$target" >/dev/null
}

scaling_alarms_are_evaluated() {
    aws cloudwatch describe-alarms --alarm-name-prefix "TargetTracking-service/$cluster/$app-stable" \
        --query 'MetricAlarms[].{name:AlarmName,state:StateValue}' --output json |
        tee /dev/stderr | jq -e 'length > 0 and all(.state != "INSUFFICIENT_DATA")' >/dev/null
}

metric_math_alarms_are_evaluated() {
    aws cloudwatch describe-alarms --alarm-name-prefix "$app-" \
        --query 'MetricAlarms[].{name:AlarmName,state:StateValue,why:StateReason}' --output json |
        tee /dev/stderr | jq -e 'length >= 7 and all(.state != "INSUFFICIENT_DATA")' >/dev/null
}

# A datum dated back, at a resolution of a second, is there within a minute; and its sample count is the number of data.
evidence_is_readable() {
    local dated query answer
    dated=$(($(date +%s) - 20))
    for _ in 1 2; do
        aws cloudwatch put-metric-data --namespace QueueWorker --metric-data \
            "[{\"MetricName\":\"Started\",\"Timestamp\":$dated,\"StorageResolution\":1,\"Values\":[7],\"Counts\":[1],
               \"Dimensions\":[{\"Name\":\"Service\",\"Value\":\"$app-verify\"},{\"Name\":\"Release\",\"Value\":\"verify\"}]}]" || return 1
    done
    query='[{"Id":"a","MetricStat":{"Stat":"SampleCount","Period":1,"Metric":{"Namespace":"QueueWorker","MetricName":"Started",
        "Dimensions":[{"Name":"Service","Value":"'$app'-verify"},{"Name":"Release","Value":"verify"}]}}}]'
    for _ in $(seq 12); do
        answer=$(aws cloudwatch get-metric-data --start-time "$dated" --end-time "$((dated + 1))" \
            --metric-data-queries "$query" --query 'MetricDataResults[0].Values' --output json) || return 1
        # Compared as numbers: 2.0 or 2, as the version of jq has it.
        if jq -e '. == [2]' <<<"$answer" >/dev/null; then echo "after $(($(date +%s) - dated - 20)) s" && return 0; fi
        sleep 5
    done
    echo "$answer; expected [2.0]" && return 1
}

workers_publish() {
    aws cloudwatch list-metrics --namespace QueueWorker --metric-name InFlight --recently-active PT3H \
        --dimensions "Name=Service,Value=$app-stable" --query 'Metrics[].Dimensions' --output json | tee /dev/stderr | jq -e 'length > 0' >/dev/null
}

watchdog_answers() {
    local answer
    answer=$(mktemp)
    aws lambda invoke --function-name "$app-watchdog" --cli-binary-format raw-in-base64-out --payload '{"source":"schedule"}' \
        --query FunctionError --output text "$answer" | grep -qx None || { cat "$answer" && return 1; }
    cat "$answer"
    jq -e '.outcome.deed == "nothing"' <"$answer" >/dev/null
}

watchdog_is_called_by_the_clock() {
    aws cloudwatch get-metric-statistics --namespace AWS/Lambda --metric-name Invocations --dimensions "Name=FunctionName,Value=$app-watchdog" \
        --start-time "$(($(date +%s) - 1800))" --end-time "$(date +%s)" --period 1800 --statistics Sum --query 'Datapoints[0].Sum' --output text |
        tee /dev/stderr | grep -qE '^[1-9]'
}

permissions_of_the_watchdog() {
    local role
    role=$(aws lambda get-function-configuration --function-name "$app-watchdog" --query Role --output text) || return 1
    aws iam simulate-principal-policy --policy-source-arn "$role" --action-names ecs:DescribeTaskDefinition ecs:RegisterTaskDefinition ecs:DeleteService \
        --query 'EvaluationResults[].{action:EvalActionName,decision:EvalDecision}' --output json | tee /dev/stderr |
        jq -e '[.[] | select(.decision == "allowed") | .action] == ["ecs:DescribeTaskDefinition"]' >/dev/null
}

pipeline_is_there() {
    aws codepipeline get-pipeline-state --name "$app" --query 'stageStates[].{stage:stageName,status:latestExecution.status}' --output json |
        tee /dev/stderr | jq -e 'length >= 4' >/dev/null
}

# RELEASE IMAGE EXPECTED
rollout_ends() {
    local status=0
    RELEASE=$1 WORKER_IMAGE=$2 CANARY_APP=$app CANARY_CLUSTER=$cluster CANARY_JOURNAL=$(output release-safety JournalUri) \
        CANARY_REPORT=report-$1 "$here/pipeline/canary.sh" >&2 || status=$?
    echo "exit code $status, expected $3"
    ((status == $3))
}

main() {
    parse_arguments "$@"
    local stack
    for stack in queue service scaling release-safety observability; do point "stack $app-$stack" stack_is_complete "$stack"; done
    point "the pinned revision is the one that runs" pinned_revision_runs
    point "tasks run and are healthy by their own check" tasks_are_healthy
    point "writes of the journal are conditional" journal_writes_are_conditional
    point "autoscaling knows the stable service, scale-in not suspended" autoscaling_can_be_suspended
    point "target tracking's alarms are evaluated (metric math with FILL and IF)" scaling_alarms_are_evaluated
    point "alarms with metric math are evaluated" metric_math_alarms_are_evaluated
    point "second-resolution data, dated back, can be read" evidence_is_readable
    point "workers publish what they count" workers_publish
    point "the watchdog answers" watchdog_answers
    point "the watchdog is called by the clock" watchdog_is_called_by_the_clock
    point "the watchdog may do no more than it must" permissions_of_the_watchdog
    if stack_is_complete pipeline >/dev/null 2>&1; then point "the pipeline has its stages" pipeline_is_there; fi
    if [[ -n $good ]]; then
        point "a good release is promoted" rollout_ends "verify-good-$(date +%s)" "$good" 0
        point "a bad release is rolled back" rollout_ends "verify-bad-$(date +%s)" "$bad" 3
        point "autoscaling is as it was" autoscaling_can_be_suspended
    fi
    printf '%s passed, %s failed\n' "$passed" "$failed"
    ((failed == 0))
}

main "$@"
