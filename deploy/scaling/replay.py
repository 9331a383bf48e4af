#!/usr/bin/env python3
"""Replays a day's traffic through the scaling policy, and says whether it holds: no flapping, no message too old.

    replay.py             the figures of the day, for the policy of scaling.yaml and for others
    replay.py --check     the same; exit 1 when the policy breaks one of its promises, or the plain one breaks none
    replay.py --changes   every change of the number of tasks
    replay.py --svg FILE  draws the day

The policy (target, cooldowns, bounds, drain time, steps) is read from the files beside this one, which are made from
deploy/cloudformation/scaling.yaml. Only the standard library.

What is modelled here. Documented by AWS (Application Auto Scaling User Guide, "How target tracking scaling works" and "How step
scaling works"): target tracking scales out in proportion to the metric and rounds up; during the cooldown only a larger scale-out
than the one under way gets through, counted from where that began; scaling in does nothing when one task less would bring it over
the target, and is blocked by a cooldown. A step is a percentage, rounded towards zero but at least 1.

Observed practice, and documented nowhere: the alarms that target tracking makes want 3 data points of a minute over the target
to scale out, and 15 under 90 % of it to scale in. AWS may change them at any time; whoever relies on the minutes looks at the
alarms `TargetTracking-…` in their account. How far it scales in at once is not documented beyond "more gradually": the replay
takes the harshest reading, all the way to the proportion. SQS's metrics arrive a minute late. A Fargate task is taken to need a
minute to start.
"""

import argparse
import json
import math
import sys
from collections import deque
from pathlib import Path

HERE = Path(__file__).resolve().parent
MINUTE = 60
DAY = 24 * 60 * MINUTE
SLOTS = 100  # of a task: WORKER__CONCURRENCY
PROCESSING = 0.5  # seconds a message takes
METRIC_DELAY = 1  # minutes until a data point can be seen
START = 60  # seconds until a new task works
OLDEST_ALLOWED = 300  # seconds; the alarm on the oldest message has this threshold (release-safety.yaml)
FLAP = 30 * MINUTE  # a change of direction within this time wants a reason
HIGH = 3  # data points over the target


def load(name):
    return json.loads((HERE / name).read_text())


def evaluate(metrics, **values):
    """A metric-math expression of CloudWatch: IF, FILL and arithmetic are Python's under these names."""
    functions = {
        "FILL": lambda value, other: other if value is None else value,
        "IF": lambda condition, then, otherwise: then if condition else otherwise,
    }
    for metric in metrics:
        if "Expression" in metric:
            expression = compile(metric["Expression"], metric["Id"], "eval")
            values[metric["Id"]] = eval(expression, {"__builtins__": {}}, functions | values)  # noqa: S307: our own files
    return next(values[metric["Id"]] for metric in metrics if metric["ReturnData"])


class Policy:
    """Target tracking scales out, a step policy in: what the files say."""

    def __init__(self):
        configuration = load("target-tracking.json")["TargetTrackingScalingPolicyConfiguration"]
        self.minimum, self.maximum = (load("scalable-target.json")[key] for key in ("MinCapacity", "MaxCapacity"))
        self.target = configuration["TargetValue"]
        self.out_cooldown = configuration["ScaleOutCooldown"]
        self.metrics = configuration["CustomizedMetricSpecification"]["Metrics"]
        steps = load("step-in.json")["StepScalingPolicyConfiguration"]
        self.steps = steps["StepAdjustments"]
        self.in_cooldown = steps["Cooldown"]
        self.alarm = load("step-in-alarm.json")

    def unserved(self, **values):
        return False

    def metric(self, **values):
        return evaluate(self.metrics, **values)

    def spare(self, **values):
        """Whether a minute is one in which the alarm sees a task too many."""
        return evaluate(self.alarm["Metrics"], **values) < self.alarm["Threshold"]

    def fewer(self, desired, metric):
        """What the step for the alarm's metric leaves of `desired`. The alarm's metric is that of one task less."""
        beyond = metric * desired / max(desired - 1, 1) - self.alarm["Threshold"]
        for step in self.steps:
            if step.get("MetricIntervalLowerBound", -math.inf) < beyond <= step["MetricIntervalUpperBound"]:
                return desired - max(1, math.floor(desired * -step["ScalingAdjustment"] / 100))
        return desired


class FromZero(Policy):
    """The same with the option FromZero: no task while there is no work, one as soon as there is."""

    def __init__(self):
        super().__init__()
        self.minimum = 0
        self.zero = load("from-zero-alarm.json")

    def unserved(self, **values):
        return evaluate(self.zero["Metrics"], **values) >= self.zero["Threshold"]


class Plain(Policy):
    """AWS's example: visible messages per running task, the target so that a task drains its share in the same time."""

    def __init__(self, drain):
        super().__init__()
        self.target, self.in_cooldown = drain * SLOTS / PROCESSING, 300
        self.alarm = {"EvaluationPeriods": 15}

    def metric(self, waiting, handover, busy, running):
        return (waiting + handover) / max(running, 1)

    def spare(self, waiting, handover, busy, running):
        return self.metric(waiting, handover, busy, running) < 0.9 * self.target

    def fewer(self, desired, metric):
        one_less_is_too_few = desired == 1 or metric * desired / (desired - 1) > self.target
        return desired if one_less_is_too_few else math.ceil(desired * metric / self.target)


class PlainByOne(Plain):
    """The plain policy in the mildest reading of how far target tracking scales in at once: by one task."""

    def fewer(self, desired, metric):
        return max(super().fewer(desired, metric), desired - 1)


class TracksIn(Policy):
    """This policy's metric, with target tracking scaling in as well instead of the steps."""

    def __init__(self):
        super().__init__()
        self.in_cooldown, self.alarm = 300, {"EvaluationPeriods": 15}

    def spare(self, **values):
        return self.metric(**values) < 0.9 * self.target

    def fewer(self, desired, metric):
        one_less_is_too_few = desired == 1 or metric * desired / (desired - 1) > self.target
        return desired if one_less_is_too_few else math.ceil(desired * metric / self.target)


def traffic(second):
    """Messages a second: a night, a day with a hump, two hours of silence, a spike to four times, and a slow evening."""
    hour = second / 3600
    if 3 <= hour < 5:
        return 0.0
    rate = 300 + 700 * max(0.0, math.sin((hour - 6) / 16 * math.pi)) if 6 <= hour <= 22 else 300.0
    if 10 <= hour < 10.5:
        rate *= 4
    # Traffic is not smooth: 15 % up and down within minutes, the same in each run.
    return rate * (1 + 0.1 * math.sin(second / 97) + 0.05 * math.sin(second / 31))


def processing(second):
    """Seconds a message takes: three times as long for an hour and a half in the afternoon, a dependency being slow."""
    return PROCESSING * (3 if 15 * 3600 <= second < 16.5 * 3600 else 1)


class Day:
    """One day, second by second; one data point and one decision a minute."""

    def __init__(self, policy):
        self.policy = policy
        self.desired = self.running = max(policy.minimum, 2)
        self.starting = deque()  # (ready at, tasks)
        self.backlog = deque()  # (arrived at, messages), the oldest first
        self.waiting = 0.0
        self.changes = []  # (second, from, to)
        self.points = []  # per minute: second, arrivals/s, waiting, tasks, oldest
        self.out_until = self.in_until = -1
        self.out_from = self.out_to = self.desired

    def second(self, now):
        arrived = traffic(now)
        if arrived:
            self.backlog.append([now, arrived])
        self.waiting += arrived
        while self.starting and self.starting[0][0] <= now:
            self.running += self.starting.popleft()[1]
        room = self.running * SLOTS / processing(now)
        done = min(room, self.waiting)
        self.waiting = max(0.0, self.waiting - done)
        in_flight = done * processing(now)
        left = done
        while left > 1e-9 and self.backlog:
            taken = min(left, self.backlog[0][1])
            self.backlog[0][1] -= taken
            left -= taken
            if self.backlog[0][1] <= 1e-9:
                self.backlog.popleft()
        oldest = now - self.backlog[0][0] if self.backlog else 0
        return arrived, in_flight, oldest

    def scale(self, now, wanted):
        wanted = min(self.policy.maximum, max(self.policy.minimum, wanted))
        if wanted == self.desired:
            return False
        self.changes.append((now, self.desired, wanted))
        if wanted > self.desired:
            self.starting.append((now + START, wanted - self.desired))
        else:
            # What is still starting is stopped first.
            surplus = self.desired - wanted
            while surplus and self.starting:
                ready, tasks = self.starting.pop()
                gone = min(tasks, surplus)
                surplus -= gone
                if tasks > gone:
                    self.starting.append((ready, tasks - gone))
            self.running -= surplus
        self.desired = wanted
        return True

    def decide(self, now, seen, spare):
        policy = self.policy
        if len(seen) == HIGH and all(value > policy.target for value in seen):
            if now >= self.out_until:
                self.out_from, self.out_to = self.desired, self.desired
            wanted = math.ceil(self.out_from * seen[-1] / policy.target)
            if wanted > self.out_to and self.scale(now, wanted):
                self.out_until, self.out_to, self.in_until = now + policy.out_cooldown, wanted, -1
        elif len(spare) == spare.maxlen and all(spare) and now >= self.in_until:
            if self.scale(now, policy.fewer(self.desired, seen[-1])):
                self.in_until = now + policy.in_cooldown

    def run(self):
        late = deque()
        seen, spare = deque(maxlen=HIGH), deque(maxlen=self.policy.alarm["EvaluationPeriods"])
        for minute in range(DAY // MINUTE):
            sums, oldest = [0.0, 0.0, 0.0, 0.0], 0
            for now in range(minute * MINUTE, (minute + 1) * MINUTE):
                arrived, in_flight, age = self.second(now)
                oldest = max(oldest, age)
                for index, value in enumerate((arrived, self.waiting, in_flight, self.running)):
                    sums[index] += value / MINUTE
            values = {"waiting": sums[1], "handover": 0.0, "running": sums[3]}
            values["busy"] = sums[2] / sums[3] if sums[3] else None
            self.points.append((minute * MINUTE, sums[0], sums[1], self.running, oldest))
            late.append((self.policy.metric(**values), self.policy.spare(**values), self.policy.unserved(**values)))
            if len(late) > METRIC_DELAY:
                metric, is_spare, unserved = late.popleft()
                seen.append(metric)
                spare.append(is_spare)
                if unserved and not self.desired:
                    self.scale((minute + 1) * MINUTE, 1)
            if self.desired:
                self.decide((minute + 1) * MINUTE, seen, spare)
        return self

    def flaps(self):
        """Changes of direction within FLAP that no change of the traffic or of the handlers' speed explains."""
        found = []
        for (before, a, b), (after, c, d) in zip(self.changes, self.changes[1:]):
            if (b > a) != (d > c) and after - before < FLAP and not disturbed(before, after):
                found.append((before, after, a, b, d))
        return found

    def figures(self):
        tasks = [point[3] for point in self.points]
        return {
            "changes": len(self.changes),
            "flaps": len(self.flaps()),
            "oldest": max(point[4] for point in self.points),
            "late_minutes": sum(point[4] > OLDEST_ALLOWED for point in self.points),
            "task_hours": sum(tasks) / 60,
            "most": max(tasks),
            "left": self.waiting,
        }


def disturbed(before, after):
    """Whether the traffic doubled or halved, or the handlers' speed changed, from a quarter of an hour before until after."""
    begin, end = max(0, before - 15 * MINUTE), min(DAY, after)
    rates = [traffic(second) for second in range(begin, end, 30)]
    speeds = {processing(second) for second in range(begin, end, 30)}
    return max(rates) > 2 * min(rates) or len(speeds) > 1


def broken_promises(figures):
    """What the policy does not keep, as sentences."""
    found = []
    if figures["flaps"]:
        found.append(f"{figures['flaps']} times out and in again, or in and out, without a change of the traffic")
    if figures["oldest"] > OLDEST_ALLOWED:
        found.append(f"a message {figures['oldest']} s old; expected at most {OLDEST_ALLOWED} s")
    if figures["left"] > 1000:
        found.append(f"{figures['left']:.0f} messages left at the end of the day")
    return found


def row(name, figures):
    return (
        f"{name:<22} {figures['changes']:>8} {figures['flaps']:>6} {figures['oldest']:>10} s {figures['late_minutes']:>10} "
        f"{figures['most']:>6} {figures['task_hours']:>11.0f}"
    )


def polyline(values, x0, y0, width, height, top, colour):
    step = width / (len(values) - 1)
    points = " ".join(f"{x0 + i * step:.1f},{y0 + height - min(v, top) / top * height:.1f}" for i, v in enumerate(values))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.2"/>'


def svg(policy, plain):
    """Four strips over the hours: traffic, tasks of both policies, messages waiting, age of the oldest."""
    width, height, left, gap = 860, 110, 64, 34
    strips = [
        ("messages a second", [([p[1] for p in policy.points], "#666")]),
        ("running tasks", [([p[3] for p in plain.points], "#d95f02"), ([p[3] for p in policy.points], "#1b6ca8")]),
        ("oldest message, seconds", [([p[4] for p in plain.points], "#d95f02"), ([p[4] for p in policy.points], "#1b6ca8")]),
    ]
    total = 46 + len(strips) * (height + gap)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 16} {total}" font-family="sans-serif" font-size="12">',
        "<title>A day through the scaling policy</title>",
        f'<rect width="{left + width + 16}" height="{total}" fill="#fff"/>',
        '<text x="64" y="18"><tspan fill="#1b6ca8">this policy: slots needed per task</tspan>'
        '<tspan dx="24" fill="#d95f02">plain: visible messages per task</tspan></text>',
    ]
    y = 40
    for name, lines in strips:
        top = max(max(values) for values, _ in lines) * 1.05 or 1
        out.append(f'<text x="{left}" y="{y - 4}" fill="#333">{name}</text>')
        for share in (0, 0.5, 1):
            at = y + height * (1 - share)
            out.append(f'<line x1="{left}" x2="{left + width}" y1="{at:.0f}" y2="{at:.0f}" stroke="#ddd"/>')
            out.append(f'<text x="{left - 6}" y="{at + 4:.0f}" text-anchor="end" fill="#333">{top * share:.0f}</text>')
        if name.startswith("oldest"):
            at = y + height - OLDEST_ALLOWED / top * height
            out.append(f'<line x1="{left}" x2="{left + width}" y1="{at:.1f}" y2="{at:.1f}" stroke="#b00" stroke-dasharray="4 3"/>')
        out += [polyline(values[::2], left, y, width, height, top, colour) for values, colour in lines]
        y += height + gap
    for hour in range(0, 25, 3):
        out.append(
            f'<text x="{left + width * hour / 24:.0f}" y="{y - gap + 16}" text-anchor="middle" fill="#333">{hour}:00</text>'
        )
    return "\n".join(out + ["</svg>", ""])


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="exit 1 when a promise is broken")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the day")
    parser.add_argument("--changes", action="store_true", help="list every change of the number of tasks")
    options = parser.parse_args(arguments)
    policy, zero, tracks = Day(Policy()).run(), Day(FromZero()).run(), Day(TracksIn()).run()
    plain, by_one = Day(Plain(drain=60)).run(), Day(PlainByOne(drain=60)).run()
    print(f"{'policy':<22} {'changes':>8} {'flaps':>6} {'oldest':>12} {'late min.':>10} {'most':>6} {'task-hours':>11}")
    print(row("slots needed per task", policy.figures()))
    print(row("- FromZero", zero.figures()))
    print(row("- tracking in as well", tracks.figures()))
    print(row("plain backlog per task", plain.figures()))
    print(row("- in by one task", by_one.figures()))
    if options.changes:
        for name, day in (("slots needed", policy), ("FromZero", zero), ("plain", plain)):
            for second, before, after in day.changes:
                print(f"{name:<14} {second // 3600:02}:{second % 3600 // 60:02} {before:>3} -> {after}")
    if options.svg:
        options.svg.write_text(svg(policy, plain))
    if options.check:
        broken = broken_promises(policy.figures()) + [f"FromZero: {text}" for text in broken_promises(zero.figures())]
        if not any(after == 0 for _, _, after in zero.changes):
            broken.append("FromZero: the silence did not lead to zero tasks")
        if not broken_promises(plain.figures()):
            broken.append("the plain policy broke no promise either: this day tests nothing")
        for sentence in broken:
            print(f"replay.py: {sentence}", file=sys.stderr)
        return 1 if broken else 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
