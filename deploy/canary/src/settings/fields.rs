//! Every key of `canary.toml`.

use crate::plan::unit;
use crate::reader::{Field, Form, Takes, Unit};

fn time(text: &str) -> Option<f64> {
    unit::seconds(text).map(f64::from)
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

static PROCESSES: Unit = Unit {
    expected: "a whole number from 1 to 200",
    parse: number,
    holds: |v| (1.0..=200.0).contains(&v) && v.fract() == 0.0,
};
static TIME: Unit = Unit {
    expected: "a time of 1s to 1h, as \"35s\"",
    parse: time,
    holds: |v| (1.0..=3600.0).contains(&v),
};
static PATH: Form = Form {
    expected: "a path that is not empty",
    holds: |text| !text.is_empty(),
};
static COMMAND: Form = Form {
    expected: "a program and its arguments as a list, as [\"worker\", \"run\"]",
    holds: |first| !first.is_empty(),
};
#[cfg(feature = "ecs")]
static NAMES: Form = Form {
    expected: "a list of names, as [\"orders-lag\"]",
    holds: |first| !first.is_empty(),
};

/// What `kind` may be.
#[cfg(feature = "ecs")]
const KINDS: &[&str] = &["local", "ecs"];
#[cfg(not(feature = "ecs"))]
const KINDS: &[&str] = &["local"];

pub(super) static KIND: Field = Field {
    path: "fleet.kind",
    takes: Takes::Word(KINDS),
    default: None,
    example: "\"local\"",
    help: "Worker processes on this machine, or services of Amazon ECS. Must be there",
};
pub(super) static DIRECTORY: Field = Field {
    path: "fleet.directory",
    takes: Takes::Text(&PATH),
    default: Some("\".canary\""),
    example: "\"/var/lib/canary\"",
    help: "Journal, control document, logs, what runs; relative to this file",
};
pub(super) static PROGRAM: Field = Field {
    path: "fleet.command",
    takes: Takes::Texts(&COMMAND),
    default: Some("[\"worker\", \"run\"]"),
    example: "[\"./orders-worker\"]",
    help: "What a worker process is; where it says `run`, the same with `check` is asked before a rollout",
};
pub(super) static STABLE: Field = Field {
    path: "fleet.stable",
    takes: Takes::Quantity(&PROCESSES),
    default: Some("3"),
    example: "5",
    help: "Processes of the stable service",
};
pub(super) static CANARY: Field = Field {
    path: "fleet.canary",
    takes: Takes::Quantity(&PROCESSES),
    default: Some("1"),
    example: "2",
    help: "Processes of the canary, and of the control group in the bake",
};
pub(super) static STOP_WITHIN: Field = Field {
    path: "fleet.stop_within",
    takes: Takes::Quantity(&TIME),
    default: Some("\"35s\""),
    example: "\"2m\"",
    help: "From SIGTERM to SIGKILL",
};
pub(super) static READY_WITHIN: Field = Field {
    path: "fleet.ready_within",
    takes: Takes::Quantity(&TIME),
    default: Some("\"2m\""),
    example: "\"5m\"",
    help: "What is not ready by then is rolled back",
};

/// Those of a fleet on this machine.
pub(crate) static LOCAL: &[&Field] = &[
    &KIND,
    &DIRECTORY,
    &PROGRAM,
    &STABLE,
    &CANARY,
    &STOP_WITHIN,
    &READY_WITHIN,
];

#[cfg(feature = "ecs")]
pub(crate) use ecs::*;

#[cfg(feature = "ecs")]
mod ecs {
    use super::{Field, Form, NAMES, PATH, TIME, Takes, Unit, number};

    /// The most tasks: ECS's for a service.
    static TASKS: Unit = Unit {
        expected: "a whole number from 1 to 5000",
        parse: number,
        holds: |v| (1.0..=5000.0).contains(&v) && v.fract() == 0.0,
    };
    static PORT: Unit = Unit {
        expected: "a port from 1 to 65535",
        parse: number,
        holds: |v| (1.0..=65_535.0).contains(&v) && v.fract() == 0.0,
    };
    static NAME: Form = Form {
        expected: "1 to 255 letters, digits, - and _",
        holds: |name| {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            (1..=255).contains(&name.len()) && name.chars().all(fits)
        },
    };
    static PLACE: Form = Form {
        expected: "s3://BUCKET/FOLDER/journal.json",
        holds: |text| text.starts_with("s3://"),
    };

    pub(in super::super) static ECS_KIND: Field = Field {
        path: "fleet.kind",
        takes: Takes::Word(super::KINDS),
        default: None,
        example: "\"ecs\"",
        help: "As above",
    };
    pub(in super::super) static APP: Field = Field {
        path: "fleet.app",
        takes: Takes::Text(&NAME),
        default: None,
        example: "\"orders\"",
        help: "The application, as the templates have it: services and parameters are named by it. Must be there",
    };
    pub(in super::super) static CLUSTER: Field = Field {
        path: "fleet.cluster",
        takes: Takes::Text(&NAME),
        default: None,
        example: "\"production\"",
        help: "The cluster of both services; left out: named as the app",
    };
    pub(in super::super) static JOURNAL: Field = Field {
        path: "fleet.journal",
        takes: Takes::Text(&PLACE),
        default: None,
        example: "\"s3://orders-canary-journal-123456789012-eu-west-1/orders/journal.json\"",
        help: "Where the journal is. Must be there",
    };
    pub(in super::super) static STABLE_SERVICE: Field = Field {
        path: "fleet.stable_service",
        takes: Takes::Text(&NAME),
        default: None,
        example: "\"orders-workers\"",
        help: "The stable service; left out: `APP-stable`",
    };
    pub(in super::super) static CANARY_SERVICE: Field = Field {
        path: "fleet.canary_service",
        takes: Takes::Text(&NAME),
        default: None,
        example: "\"orders-workers-canary\"",
        help: "The canary service; left out: `APP-canary`",
    };
    pub(in super::super) static FEWEST: Field = Field {
        path: "fleet.canary",
        takes: Takes::Quantity(&TASKS),
        default: Some("1"),
        example: "2",
        help: "The fewest canary tasks; there are more when the plan's shares need more",
    };
    pub(in super::super) static ECS_READY_WITHIN: Field = Field {
        path: "fleet.ready_within",
        takes: Takes::Quantity(&TIME),
        default: Some("\"10m\""),
        example: "\"15m\"",
        help: "What is not ready by then is rolled back",
    };
    pub(in super::super) static CONTAINER: Field = Field {
        path: "fleet.container",
        takes: Takes::Text(&NAME),
        default: Some("\"worker\""),
        example: "\"app\"",
        help: "The worker's container, where a task has several",
    };
    pub(in super::super) static EVIDENCE: Field = Field {
        path: "fleet.evidence",
        takes: Takes::Word(&["cloudwatch", "scrape"]),
        default: Some("\"cloudwatch\""),
        example: "\"scrape\"",
        help: "Who counts: CloudWatch, to which the workers publish, or the workers themselves over HTTP: quicker, where the tasks' addresses can be reached",
    };
    pub(in super::super) static ADMIN_PORT: Field = Field {
        path: "fleet.admin_port",
        takes: Takes::Quantity(&PORT),
        default: Some("9464"),
        example: "8080",
        help: "The workers' port for `scrape`",
    };
    pub(in super::super) static METRICS: Field = Field {
        path: "fleet.metrics",
        takes: Takes::Word(&["cloudwatch", "none"]),
        default: Some("\"cloudwatch\""),
        example: "\"none\"",
        help: "Where the tool says how the rollout stands",
    };
    pub(in super::super) static AUTOSCALING: Field = Field {
        path: "fleet.autoscaling",
        takes: Takes::Flag,
        default: Some("true"),
        example: "false",
        help: "`false`: nothing scales the stable service, and nothing is asked about it",
    };
    pub(in super::super) static IGNORED_ALARMS: Field = Field {
        path: "fleet.ignored_alarms",
        takes: Takes::Texts(&NAMES),
        default: Some("[]"),
        example: "[\"orders-lag\"]",
        help: "May be in ALARM when a rollout begins",
    };
    pub(in super::super) static FIRST: Field = Field {
        path: "fleet.first",
        takes: Takes::Text(&PATH),
        default: None,
        example: "\"worker.json\"",
        help: "A task definition, as `RegisterTaskDefinition` takes it, for the very first release; relative to this file",
    };

    /// Those of a fleet on Amazon ECS.
    pub(crate) static ECS: &[&Field] = &[
        &ECS_KIND,
        &APP,
        &CLUSTER,
        &JOURNAL,
        &STABLE_SERVICE,
        &CANARY_SERVICE,
        &FEWEST,
        &ECS_READY_WITHIN,
        &CONTAINER,
        &EVIDENCE,
        &ADMIN_PORT,
        &METRICS,
        &AUTOSCALING,
        &IGNORED_ALARMS,
        &FIRST,
    ];
}
