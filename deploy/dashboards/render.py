#!/usr/bin/env python3
"""Makes grafana/*.json from the panels below, with Grafana's own SDK, whose types are generated from Grafana's schemas.

    render.py           write them
    render.py --check   exit 1 when they are not what this says, or lose something when they are read by those types

Needs grafana_foundation_sdk (.ci/tools.txt).
"""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import common as build_common
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as model

DIRECTORY = Path(__file__).resolve().parent / "grafana"

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
REFERENCES = "ABCDEFGHIJ"
WIDTH = 24


def target(index, query):
    expression, legend = query
    return (
        prometheus.Dataquery()
        .datasource(SOURCE)
        .ref_id(REFERENCES[index])
        .expr(" ".join(expression.split()))
        .legend_format(legend)
    )


def common_parts(panel, title, description, unit, queries, width, height):
    panel.title(title).description(" ".join(description.split())).unit(unit).datasource(SOURCE).height(height).span(width)
    for index, query in enumerate(queries):
        panel.with_target(target(index, query))
    return panel


def graph(title, description, unit, *queries, width=12, height=8, least=0, most=None, dashed=None):
    """Lines over time. `dashed` is a pattern of legends that are bounds of something, not values."""
    panel = common_parts(timeseries.Panel(), title, description, unit, queries, width, height)
    if least is not None:
        panel.min(least)
    panel.line_width(1).fill_opacity(0).show_points(common.VisibilityMode.NEVER)
    panel.tooltip(build_common.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    legend = build_common.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)
    panel.legend(legend.show_legend(True))
    if most is not None:
        panel.max(most)
    if dashed:
        style = {"fill": "dash", "dash": [4, 6]}
        panel.override_by_regexp(f"/{dashed}/", [model.DynamicConfigValue(id_val="custom.lineStyle", value=style)])
    return panel


def figure(title, description, unit, *queries, width=4, height=4, words=None, name=False):
    """The present value, large. `words` names values; `name` shows the legend in place of the value."""
    panel = common_parts(stat.Panel(), title, description, unit, queries, width, height)
    panel.graph_mode(common.BigValueGraphMode.NONE).color_mode(common.BigValueColorMode.VALUE)
    panel.text_mode(common.BigValueTextMode.NAME if name else common.BigValueTextMode.AUTO)
    panel.reduce_options(build_common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.no_value("none")
    if words:
        results = {
            str(value): model.ValueMappingResult(text=text, color=color, index=index)
            for index, (value, text, color) in enumerate(words)
        }
        panel.mappings([model.ValueMap(options=results)])
    return panel


def row(title):
    return build.Row(title)


# ---- Releases -----------------------------------------------------------------------------------------------------

QUEUE = 'queue=~"$queue"'

RELEASES = [
    row("What runs"),
    figure(
        "Workers by release",
        "Worker processes that Prometheus reaches, by release and track.",
        "short",
        ("count by (track, release) (worker_build_info)", "{{release}} ({{track}})"),
        width=6,
    ),
    figure(
        "Rollout",
        "The phase of the rollout that is under way, else of the last one. From the release tool's journal.",
        "none",
        ("canary_rollout_phase == 1", "{{release}}: {{phase}}"),
        width=6,
        name=True,
    ),
    figure(
        "Step of the plan",
        "The step that is under way, from 1 on, and how many there are; 0 outside of steps.",
        "short",
        ("canary_rollout_step", "step"),
        ("canary_rollout_steps", "of"),
    ),
    figure(
        "The judge says",
        "What the comparison comes to so far. 'continue': neither harm nor harmlessness is shown yet.",
        "none",
        ("canary_verdict == 1", "{{decision}}"),
        name=True,
    ),
    figure(
        "Held, suspected",
        "Held: waits for a person. Suspected: the evidence of harm is past its bound, the canary is cut to a trickle.",
        "none",
        ("canary_rollout_held", "held"),
        ("canary_rollout_suspected", "suspected"),
        words=[(0, "no", "green"), (1, "yes", "red")],
    ),
    row("Is the new release worse?"),
    graph(
        "Failed first attempts by release",
        """Share of first deliveries whose attempt failed, over 5 minutes, with Wilson's interval at 95 % (dashed). Redeliveries were
        chosen by an earlier failure and are left out, as is what a shutdown cut off and what comes from a handover queue.""",
        "percentunit",
        (f"queue_release:worker_first_failures:ratio5m{{{QUEUE}}}", "{{release}} ({{track}})"),
        (f"queue_release:worker_first_failures:ratio5m_low{{{QUEUE}}}", "{{release}} low"),
        (f"queue_release:worker_first_failures:ratio5m_high{{{QUEUE}}}", "{{release}} high"),
        dashed=" (low|high)$",
    ),
    graph(
        "Evidence against its bound",
        """Natural logarithm of the evidence: 0 is none, 4.6 is 100 to 1. Harm at its bound (dashed) makes the release suspected, then
        convicted; for promotion at its bound, and the last step done, it is promoted. It may be looked at as often as one likes.""",
        "short",
        ('canary_evidence', "{{question}}"),
        ('canary_evidence_bound', "{{question}}, bound"),
        least=None,
        dashed="bound$",
    ),
    graph(
        "Rates as the judge compares them",
        """Since the rollout began, each release against the other, by signal, with bands that hold at every moment at once
        (dashed, 95 %).""",
        "percentunit",
        ('canary_signal_rate{bound="estimate"}', "{{signal}}, {{arm}}"),
        ('canary_signal_rate{bound="low"}', "{{signal}}, {{arm}} low"),
        ('canary_signal_rate{bound="high"}', "{{signal}}, {{arm}} high"),
        dashed=" (low|high)$",
    ),
    graph(
        "Why attempts fail",
        "Failed attempts of all deliveries by release, outcome and reason. One reason that all releases share is not a release's fault.",
        "mps",
        (
            f"""sum by (release, outcome, reason) (rate(worker_attempts_total{{{QUEUE}, outcome!~"done|lost"}}[$__rate_interval])) > 0""",
            "{{release}} {{outcome}} {{reason}}",
        ),
    ),
    row("The work and its sharing"),
    graph(
        "Messages done by release",
        "Attempts that ended well, a second.",
        "mps",
        (
            f"sum by (release, track) (queue_release:worker_messages_done:rate1m{{{QUEUE}}})",
            "{{release}} ({{track}})",
        ),
    ),
    graph(
        "The canary's share, wanted and measured",
        """Of first deliveries. Wanted and measured by the release tool over 10 s, and by the workers' own counters over a minute.""",
        "percentunit",
        ('canary_share{which="wanted"}', "wanted"),
        ('canary_share{which="measured"}', "measured by the tool"),
        (f"queue:worker_first_received:canary_share1m{{{QUEUE}}}", "by the workers' counters"),
    ),
    graph(
        "How long attempts take",
        "Quantiles of the attempts that ended well, by release, from the histogram's buckets.",
        "s",
        *(
            (
                f"""histogram_quantile({quantile}, sum by (release, le)
                (rate(worker_attempt_duration_seconds_bucket{{{QUEUE}, outcome="done"}}[$__rate_interval])))""",
                f"{{{{release}}}} p{name}",
            )
            for quantile, name in ((0.5, "50"), (0.9, "90"), (0.99, "99"))
        ),
    ),
    graph(
        "What the canary may receive",
        "The gate's limit for a canary process, in messages a second; no line when there is no limit. Shut is 0.",
        "mps",
        (f'worker_gate_rate{{{QUEUE}, track="canary"}} < +Inf', "{{release}} {{instance}}"),
    ),
    row("The workers' own reflexes"),
    graph(
        "Handed over",
        "Messages that a canary failed and moved to the handover queue, where the stable release takes them with their receives unspent.",
        "mps",
        (f"sum by (failed_release) (rate(worker_handover_total{{{QUEUE}}}[$__rate_interval]))", "failed by {{failed_release}}"),
        width=8,
    ),
    graph(
        "What became of it",
        """Recovered: the stable release did it, so it was probably the release. Confirmed: it failed there as well, so it was the
        message. An explanation, not evidence: a transient failure recovers, too.""",
        "short",
        (
            "sum by (failed_release, result) (increase(worker_handover_results_total[10m]))",
            "{{failed_release}} {{result}}",
        ),
        width=8,
    ),
    graph(
        "Breakers",
        """The worst process: 0 closed, 1 probing, 2 open. Rate: a canary that fails more than allowed has stopped itself. Dependency:
        what the handler needs is down, messages are kept.""",
        "short",
        (f"max by (release, kind) (worker_breaker_state{{{QUEUE}}})", "{{release}} {{kind}}"),
        width=4,
        most=2,
    ),
    graph(
        "Paused",
        "Part of a track's processes that the control document, or the want of one, keeps from receiving.",
        "percentunit",
        (f"avg by (track, release) (worker_paused{{{QUEUE}}})", "{{release}} ({{track}})"),
        width=4,
        most=1,
    ),
]

# ---- Queue --------------------------------------------------------------------------------------------------------

QUEUES = [
    row("How full"),
    graph(
        "Messages in the queues",
        "Messages that could be received now, as SQS says approximately. The dead-letter queue is below.",
        "short",
        ('canary_queue_messages{role!="dead_letter", state="visible"}', "{{queue}}"),
        width=8,
    ),
    graph(
        "In flight and delayed",
        "Received and not yet deleted, the delays of retries included (120,000 a queue at most), and sent with a delay.",
        "short",
        ('canary_queue_messages{role!="dead_letter", state="in_flight"}', "{{queue}} in flight"),
        ('canary_queue_messages{role!="dead_letter", state="delayed"}', "{{queue}} delayed"),
        width=8,
    ),
    graph(
        "Backlog per task",
        "Messages that wait, in the main and the handover queue, for each worker of the stable track.",
        "short",
        (
            """sum(canary_queue_messages{role=~"main|handover", state="visible"})
            / count(worker_build_info{track="stable"})""",
            "messages",
        ),
        width=8,
    ),
    row("How fast"),
    graph(
        "Age at the first attempt",
        """How long messages had waited when their first attempt started. On AWS the age of the oldest message that still waits is
        CloudWatch's ApproximateAgeOfOldestMessage.""",
        "s",
        *(
            (
                f"""histogram_quantile({quantile}, sum by (queue, le)
                (rate(worker_queue_wait_seconds_bucket[$__rate_interval])))""",
                f"{{{{queue}}}} p{name}",
            )
            for quantile, name in ((0.5, "50"), (0.99, "99"))
        ),
        width=8,
    ),
    graph(
        "Received, first and again",
        "Messages received, a second: first deliveries, and those that come again after a failure or a lost worker.",
        "mps",
        (
            "sum by (queue, delivery) (rate(worker_messages_received_total[$__rate_interval]))",
            "{{queue}} {{delivery}}",
        ),
        width=8,
    ),
    graph(
        "Done",
        "Messages whose handler said done, a second.",
        "mps",
        ("sum by (queue) (queue_release:worker_messages_done:rate1m)", "{{queue}}"),
        width=8,
    ),
    row("Dead letters"),
    graph(
        "Messages in the dead-letter queue",
        """Letters that wait for a decision, those in the hands of a redrive included. `canary redrive --dry-run` says whose they are
        and why.""",
        "short",
        ('sum by (queue) (canary_queue_messages{role="dead_letter", state=~"visible|in_flight"})', "{{queue}}"),
        width=8,
    ),
    graph(
        "Dead letters by release and reason",
        "Copied by workers in ten minutes. What SQS moved itself, because its worker crashed, is not here but on the left.",
        "short",
        (
            "sum by (release, reason) (queue_release:worker_dead_letters:increase10m) > 0",
            "{{release}} {{reason}}",
        ),
        width=8,
    ),
    graph(
        "Dead letters as a share of what is received",
        """Of first deliveries, over ten minutes, by release. Without handover queues: what a canary failed is there, and ends as a dead
        letter more often.""",
        "percentunit",
        (
            """sum by (queue, release) (queue_release:worker_dead_letters:increase10m{queue!~".+-handover"})
            / (sum by (queue, release) (increase(worker_messages_received_total{queue!~".+-handover", delivery="first"}[10m])) > 0)""",
            "{{queue}} {{release}}",
        ),
        width=8,
    ),
]

# ---- Worker -------------------------------------------------------------------------------------------------------

WORKER = [
    row("Slots and polls"),
    graph(
        "Slots and what they hold",
        "How many messages may be held at once, and how many are: processed, or kept under their lease.",
        "short",
        (f"sum by (queue, release) (worker_in_flight{{{QUEUE}}})", "{{queue}} {{release}} held"),
        (f"sum by (queue, release) (worker_slots{{{QUEUE}}})", "{{queue}} {{release}} slots"),
        dashed="slots$",
        width=8,
    ),
    graph(
        "Busy slots",
        "1: every slot holds a message, and more workers or more slots would help.",
        "percentunit",
        (f"queue:worker_slots:busy{{{QUEUE}}}", "{{queue}}"),
        width=8,
        most=1,
    ),
    graph(
        "Receives under way",
        "Polls of each process: one when the queue is quiet, more while receives come back full.",
        "short",
        (f"worker_pollers{{{QUEUE}}}", "{{queue}} {{instance}}"),
        width=8,
    ),
    row("Leases and settling"),
    graph(
        "Settle latency",
        """How long a batch took to be settled, from its first entry to the end of the last, with every try. What is done and not yet
        deleted is done again if the worker dies now. Seconds: SQS throttles or fails.""",
        "s",
        *(
            (
                f"""histogram_quantile({quantile}, sum by (action, le)
                (rate(worker_settle_seconds_bucket{{{QUEUE}}}[$__rate_interval])))""",
                f"{{{{action}}}} p{name}",
            )
            for quantile, name in ((0.5, "50"), (0.99, "99"))
        ),
        width=6,
    ),
    graph(
        "Leases lost",
        """Before the attempt ended, in ten minutes; the message is processed again. Expired: it could not be extended in time. Refused:
        somebody else has changed or deleted the message.""",
        "short",
        (f"sum by (release, cause) (increase(worker_leases_lost_total{{{QUEUE}}}[10m]))", "{{release}} {{cause}}"),
        width=6,
    ),
    graph(
        "Entries tried again and given up",
        "Of deletions, visibility changes and sends, a second. What is given up comes back by its visibility timeout.",
        "cps",
        (f"sum by (action) (rate(worker_settle_retries_total{{{QUEUE}}}[$__rate_interval]))", "{{action}} again"),
        (f"sum by (action) (rate(worker_settle_failed_total{{{QUEUE}}}[$__rate_interval]))", "{{action}} given up"),
        width=6,
    ),
    graph(
        "Duplicates, handed back, cut off",
        """In ten minutes. Duplicates: delivered again although done, deleted without another attempt. Handed back: a worker stopped.
        Cut off: attempts ended by a shutdown, a breaker or a lost lease.""",
        "short",
        (f"sum by (release) (increase(worker_duplicates_deleted_total{{{QUEUE}}}[10m]))", "{{release}} duplicates"),
        (f"sum by (release) (increase(worker_messages_returned_total{{{QUEUE}}}[10m]))", "{{release}} handed back"),
        (f'sum by (release) (increase(worker_attempts_total{{{QUEUE}, outcome="lost"}}[10m]))', "{{release}} cut off"),
        width=6,
    ),
    row("SQS"),
    graph(
        "Requests for a message",
        "All requests to SQS by messages that are done. In full batches a message costs 0.2; a quiet queue costs more, in polls.",
        "short",
        (
            f"""sum by (queue) (rate(worker_sqs_requests_total{{{QUEUE}}}[5m]))
            / (sum by (queue) (rate(worker_attempts_total{{{QUEUE}, outcome="done"}}[5m])) > 0)""",
            "{{queue}}",
        ),
        width=8,
    ),
    graph(
        "Requests by action",
        "Each try counted.",
        "reqps",
        (f"sum by (action) (rate(worker_sqs_requests_total{{{QUEUE}}}[$__rate_interval]))", "{{action}}"),
        width=8,
    ),
    graph(
        "Requests that failed",
        """By what SQS or the network said; empty while none fails. `partial`: the call succeeded with failed entries. `throttled`: SQS
        asks to slow down.""",
        "reqps",
        (
            f'sum by (action, result) (rate(worker_sqs_requests_total{{{QUEUE}, result!="ok"}}[$__rate_interval])) > 0',
            "{{action}} {{result}}",
        ),
        width=8,
    ),
    row("Steering and health"),
    graph(
        "Behind the newest control document",
        """How far the epoch that each process has read is behind the highest: 0 is up to date. The release tool counts epochs by the
        millisecond. Not 0 for longer than a minute: this process cannot read it.""",
        "short",
        (
            f"scalar(max(worker_control_epoch{{{QUEUE}}})) - max by (instance) (worker_control_epoch{{{QUEUE}}})",
            "{{instance}}",
        ),
        width=8,
    ),
    graph(
        "Reads of the control document",
        "By result, a second.",
        "cps",
        (f"sum by (track, result) (rate(worker_control_reads_total{{{QUEUE}}}[$__rate_interval]))", "{{track}} {{result}}"),
        width=8,
    ),
    graph(
        "Work that does not end",
        "Attempts past their deadline that block their thread, each holding a slot until its process is restarted.",
        "short",
        (f"sum by (release, instance) (worker_stuck_attempts{{{QUEUE}}})", "{{release}} {{instance}}"),
        width=8,
    ),
]


# ---- Dashboards ---------------------------------------------------------------------------------------------------


def source_variable():
    return build.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def queue_variable(pattern):
    return (
        build.QueryVariable("queue")
        .label("Queue")
        .datasource(SOURCE)
        .query(f"label_values(worker_slots{pattern}, queue)")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
    )


def events():
    """A line across all panels when the rollout enters a phase, with its name."""
    return (
        build.AnnotationQuery()
        .name("Rollout")
        .datasource(SOURCE)
        .enable(True)
        .icon_color("purple")
        .expr("canary_rollout_phase == 1 unless canary_rollout_phase offset 30s == 1")
    )


def dashboard(uid, title, description, panels, variables):
    whole = (
        build.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["queue-worker"])
        .timezone("utc")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("10s")
        .annotation(events())
        .link(
            build.DashboardLink("Queue worker")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags(["queue-worker"])
            .include_vars(True)
            .keep_time(True)
        )
    )
    for variable in variables:
        whole.with_variable(variable)
    for panel in panels:
        whole.with_row(panel) if isinstance(panel, build.Row) else whole.with_panel(panel)
    built = whole.build()
    for number, panel in enumerate(built.panels, 1):
        panel.id_val = number
    return built


def rendered():
    """Every file with its text."""
    every = [
        dashboard(
            "queue-worker-releases",
            "Releases",
            "Two releases on one queue: which runs, which fails more, what the judge says, and what the workers did about it.",
            RELEASES,
            [source_variable(), queue_variable("")],
        ),
        dashboard(
            "queue-worker-queue",
            "Queue",
            "How full the queues are, how long messages wait, and who dead-letters what.",
            QUEUES,
            [source_variable()],
        ),
        dashboard(
            "queue-worker-worker",
            "Worker",
            "The machinery: slots, polls, leases, settling, requests to SQS, steering.",
            WORKER,
            [source_variable(), queue_variable("")],
        ),
    ]
    return {
        DIRECTORY / f"{one.title.lower()}.json": json.dumps(one, cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"
        for one in every
    }


def lost(before, after, path=""):
    """What is in `before` and not, or otherwise, in `after`."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in after:
                yield from lost(value, after[key], f"{path}.{key}")
            else:
                yield f"{path}.{key} is unknown to Grafana's schema"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after)):
            yield from lost(one, other, f"{path}[{index}]")
    elif before != after:
        yield f"{path} is {before!r}, Grafana's schema makes {after!r} of it"


def schema(text):
    """What Grafana's schema does not take."""
    plain = json.loads(text)
    read = model.Dashboard.from_json(plain)
    return list(lost(plain, json.loads(json.dumps(read, cls=JSONEncoder))))


def self_test(text):
    """Misspelt, each of these must be noticed; else the check checks nothing."""
    for key in ("expr", "showPoints", "graphMode", "gridPos", "annotations"):
        misspelt = text.replace(f'"{key}":', f'"{key}x":', 1)
        assert misspelt != text and schema(misspelt), key


def main(arguments):
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 64
    findings = []
    register_default_plugins()  # the types of panels and queries, too
    for file, text in rendered().items():
        if arguments:
            if not file.exists() or file.read_text(encoding="utf-8") != text:
                findings.append(f"{file.name} is not what render.py says; write it anew by deploy/dashboards/render.py")
            findings += [f"{file.name}: {finding}" for finding in schema(text)]
            if file.name == "releases.json":
                self_test(text)
        else:
            file.write_text(text, encoding="utf-8")
    strangers = {file.name for file in DIRECTORY.glob("*.json")} - {file.name for file in rendered()}
    findings += [f"{name}: render.py does not make it" for name in sorted(strangers)]
    print("\n".join([*findings, f"{len(rendered())} dashboards, {len(findings)} findings"]))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
