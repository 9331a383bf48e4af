#!/usr/bin/env bash
# First installation of a queue worker on AWS, in order. `deploy/deploy.sh --help` says the rest; deploy/README.md what it means.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
    cat <<'TEXT'
Usage: deploy/deploy.sh --app NAME --release R --worker-digest D --vpc V --subnets S,S [options]

Makes what is missing and brings up to date what is there: image repositories, the parameter of the stable revision, and the
stacks NAME-queue, NAME-service, NAME-scaling, NAME-release-safety, NAME-observability and NAME-pipeline. Can be run again at
any time, except while a rollout is on.

  --app NAME             name of the application: 2 to 31 of a-z 0-9 -, the first a letter
  --release R            release of the first task definition, such as 1.0.0
  --worker-digest D      sha256:… of the worker's image in the ECR repository NAME-worker
  --vpc V                VPC of the tasks
  --subnets S,S          private subnets of the tasks
  --canary-digest D      sha256:… of the release tool's image for one architecture in NAME-canary; without it, neither
                         release-safety nor pipeline is installed
  --topic ARN            SNS topic for alarms
  --cluster NAME         an existing ECS cluster (default: one is made, named as the application)
  --connection ARN       connection to the source's host; with --repository, and with --canary-digest, installs the pipeline
  --repository OWNER/N   the source's repository
  --max-tasks N          most stable tasks (default: the template's)
  --dry-run              say what would be done, ask AWS nothing, change nothing
  --help                 this text

Region and credentials are those of the AWS CLI (AWS_REGION, AWS_PROFILE). Needs the AWS CLI, version 2.
Exit: 0 done, 1 AWS refused or a stack failed, 64 wrong usage, 69 no AWS CLI, no region or no credentials.
TEXT
}

fail() {
    local status=$1
    shift
    printf 'deploy.sh: %s\n' "$*" >&2
    exit "$status"
}

say() { printf 'deploy.sh: %s\n' "$*"; }

app='' release='' worker_digest='' canary_digest='' vpc='' subnets='' topic='' cluster='' connection='' repository='' max_tasks=''
dry_run=no

parse_arguments() {
    while (($#)); do
        case $1 in
            --dry-run) dry_run=yes ;;
            --help | -h) usage && exit 0 ;;
            --app | --release | --worker-digest | --canary-digest | --vpc | --subnets | --topic | --cluster | --connection | \
                --repository | --max-tasks)
                (($# > 1)) || fail 64 "$1 expects a value"
                local name=${1#--}
                printf -v "${name//-/_}" '%s' "$2"
                shift
                ;;
            *) fail 64 "unknown argument '$1'; deploy/deploy.sh --help lists what there is" ;;
        esac
        shift
    done
}

# NAME VALUE PATTERN EXPECTED
check() {
    [[ -n $2 ]] || fail 64 "$1 is missing; expected $4"
    [[ $2 =~ $3 ]] || fail 64 "$1 is '$2'; expected $4"
}

check_arguments() {
    check --app "$app" '^[a-z][a-z0-9-]{0,29}[a-z0-9]$' "2 to 31 of a-z 0-9 -, the first a letter, the last no hyphen"
    check --release "$release" '^[A-Za-z0-9._+:@/-]{1,128}$' "1 to 128 of A-Z a-z 0-9 . _ - + : @ /"
    check --worker-digest "$worker_digest" '^sha256:[0-9a-f]{64}$' "sha256: and 64 hexadecimal digits"
    check --vpc "$vpc" '^vpc-[0-9a-f]+$' "the id of a VPC, vpc-…"
    check --subnets "$subnets" '^subnet-[0-9a-f]+(,subnet-[0-9a-f]+)*$' "ids of subnets with commas between, subnet-…,subnet-…"
    [[ -z $canary_digest ]] || check --canary-digest "$canary_digest" '^sha256:[0-9a-f]{64}$' "sha256: and 64 hexadecimal digits"
    [[ -z $topic ]] || check --topic "$topic" '^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:.+$' "the ARN of an SNS topic"
    [[ -z $max_tasks ]] || check --max-tasks "$max_tasks" '^[1-9][0-9]{0,3}$' "a whole number from 1 to 9999"
    if [[ -n $connection || -n $repository ]]; then
        check --connection "$connection" '^arn:aws[a-z-]*:codeconnections:.+$' "the ARN of a connection, together with --repository"
        check --repository "$repository" '^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)+$' "OWNER/NAME, together with --connection"
        [[ -n $canary_digest ]] || fail 64 "--connection installs the pipeline, which needs --canary-digest as well"
    fi
}

check_aws() {
    if [[ $dry_run == yes ]]; then
        region=${AWS_REGION:-${AWS_DEFAULT_REGION:-REGION}} account=ACCOUNT
        return
    fi
    command -v aws >/dev/null || fail 69 "the AWS CLI is not installed"
    region=${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}
    [[ -n $region ]] || fail 69 "no region is set; set AWS_REGION"
    export AWS_REGION=$region AWS_DEFAULT_REGION=$region # the AWS CLI's version 1 knows the second only
    account=$(aws sts get-caller-identity --query Account --output text) ||
        fail 69 "AWS takes no credentials; the line above is its answer"
    say "account $account, region $region"
}

# Changes something, or says so.
run() {
    if [[ $dry_run == yes ]]; then
        printf '  %s\n' "$(printf '%q ' "$@")"
    else
        "$@"
    fi
}

# KIND COMMAND…: whether something is there. An answer other than "there is none" ends the script.
exists() {
    local missing=$1 answer
    shift
    if answer=$("$@" 2>&1 >/dev/null); then return 0; fi
    [[ $answer == *"$missing"* ]] || fail 1 "$answer"
    return 1
}

repositories() {
    say "image repositories"
    local name
    for name in "$app-worker" "$app-canary"; do
        if [[ $dry_run == no ]] && exists RepositoryNotFoundException aws ecr describe-repositories --repository-names "$name"; then
            continue
        fi
        run aws ecr create-repository --repository-name "$name" --image-tag-mutability IMMUTABLE \
            --image-scanning-configuration scanOnPush=true --encryption-configuration encryptionType=AES256
    done
    [[ $dry_run == yes ]] ||
        exists ImageNotFoundException aws ecr describe-images --repository-name "$app-worker" --image-ids "imageDigest=$worker_digest" ||
        fail 1 "$app-worker has no image $worker_digest. Push one: docker buildx build --file worker/Dockerfile --push" \
            "--tag $account.dkr.ecr.$region.amazonaws.com/$app-worker:$release . and give its digest"
}

parameter=''
parameters() {
    say "parameter $parameter"
    if [[ $dry_run == no ]] && exists ParameterNotFound aws ssm get-parameter --name "$parameter"; then return; fi
    run aws ssm put-parameter --name "$parameter" --type String --value none \
        --description "Task definition that the stable service runs. Written by the release tool."
}

# NAME KEY=VALUE…; empty values are left to the template's defaults.
stack() {
    local name=$1 pair
    local -a values=()
    shift
    for pair in "$@"; do
        [[ -z ${pair#*=} ]] || values+=("$pair")
    done
    say "stack $app-$name"
    run aws cloudformation deploy --stack-name "$app-$name" --template-file "$here/cloudformation/$name.yaml" \
        --capabilities CAPABILITY_NAMED_IAM --no-fail-on-empty-changeset --tags "app=$app" --parameter-overrides "${values[@]}" ||
        fail 1 "the stack $app-$name failed: aws cloudformation describe-stack-events --stack-name $app-$name says why." \
            "See 'A stack update failed' in deploy/README.md before you try again"
}

output() {
    if [[ $dry_run == yes ]]; then
        printf '(%s of %s)\n' "$2" "$app-$1"
        return
    fi
    aws cloudformation describe-stacks --stack-name "$app-$1" --query "Stacks[0].Outputs[?OutputKey=='$2'].OutputValue" --output text
}

# From now on the parameter says which revision runs, and a stack update does not change it.
pin_first_revision() {
    local pinned=none
    [[ $dry_run == yes ]] || pinned=$(aws ssm get-parameter --name "$parameter" --query Parameter.Value --output text)
    [[ $pinned == none ]] || return 0
    local revision
    revision=$(output service TaskDefinitionArn) # by itself: what fails in an argument is not heard
    say "the first revision is pinned"
    run aws ssm put-parameter --name "$parameter" --overwrite --value "$revision"
}

main() {
    parse_arguments "$@"
    check_arguments
    check_aws
    parameter=/$app/canary/stable-task-definition
    repositories
    parameters
    stack queue App="$app"
    stack service App="$app" StableTaskDefinition="$parameter" Release="$release" ImageRepository="$app-worker" \
        ImageDigest="$worker_digest" QueueName="$app" DeadLetterQueueName="$app-dlq" HandoverQueueName="$app-handover" \
        VpcId="$vpc" SubnetIds="$subnets" ClusterName="$cluster"
    pin_first_revision
    stack scaling App="$app" ClusterName="${cluster:-$app}" QueueName="$app" HandoverQueueName="$app-handover" MaxTasks="$max_tasks"
    if [[ -n $canary_digest ]]; then
        stack release-safety App="$app" ClusterName="${cluster:-$app}" QueueName="$app" HandoverQueueName="$app-handover" \
            DeadLetterQueueName="$app-dlq" NotificationTopicArn="$topic" PipelineProjectName="${connection:+$app-canary}" \
            WatchdogImageUri="$account.dkr.ecr.$region.amazonaws.com/$app-canary@$canary_digest"
    fi
    stack observability App="$app" ClusterName="${cluster:-$app}" QueueName="$app" HandoverQueueName="$app-handover" \
        DeadLetterQueueName="$app-dlq" LogGroupName="/ecs/$app-worker"
    if [[ -n $connection ]]; then
        local policy journal
        policy=$(output release-safety ReleaseToolPolicyArn)
        journal=$(output release-safety JournalUri)
        stack pipeline App="$app" WorkerRepository="$app-worker" CanaryRepository="$app-canary" ConnectionArn="$connection" \
            RepositoryId="$repository" ReleaseToolPolicyArn="$policy" JournalUri="$journal"
    fi
    say "done"
}

main "$@"
