//! A walk over every state that can be reached, with every event in each, against a model of the fleet.

use std::collections::{BTreeMap, VecDeque};

use worker::release::Release;

use super::action::standing;
use super::*;
use crate::judge::verdict::Decision;
use crate::moment::Moment;
use crate::plan::{Inconclusive, Plan};

/// What every state's own moments are set to, so that there are finitely many states.
const SINCE: Moment = Moment::from_millis(1_000_000);
const UNTIL: Moment = Moment::from_millis(2_000_000);
const LATE: Moment = Moment::from_millis(9_000_000_000);

fn revision(name: &str) -> Revision {
    Revision {
        release: Release::new(name).unwrap(),
        definition: Definition::Local {
            command: vec![name.to_owned()],
            environment: BTreeMap::new(),
        },
    }
}

/// What the fleet was told to run. Every action is applied whole; what is really there arrives as an event, in any order.
#[derive(Clone, Debug, PartialEq)]
struct World {
    stable: Option<Release>,
    canary: Option<(Release, Count)>,
    recorded: Option<Release>,
    limit: Option<Limit>,
    redriven: Option<Release>,
}

impl World {
    fn before(baseline: Option<&Revision>) -> Self {
        let stable = baseline.map(|revision| revision.release.clone());
        Self {
            recorded: stable.clone(),
            stable,
            canary: None,
            limit: None,
            redriven: None,
        }
    }

    fn apply(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Check => {}
                Action::Limit { limit, .. } => self.limit = Some(*limit),
                Action::RunCanary { revision, count } => {
                    self.canary = Some((revision.release.clone(), *count));
                }
                Action::StopCanary => self.canary = None,
                Action::RunStable { revision } => self.stable = Some(revision.release.clone()),
                Action::StopStable => self.stable = None,
                Action::Record { revision } => {
                    self.recorded = revision.as_ref().map(|revision| revision.release.clone());
                }
                Action::Redrive { release } => self.redriven = Some(release.clone()),
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Node {
    state: State,
    world: World,
}

impl Node {
    fn key(&self) -> String {
        format!("{self:?}")
    }

    fn normalised(mut self) -> Self {
        let state = &mut self.state;
        state.began = SINCE;
        state.deadline = state.deadline.map(|_| UNTIL);
        if let Some(hold) = &mut state.hold {
            (hold.since, hold.until) = (SINCE, UNTIL);
        }
        match &mut state.phase {
            Phase::Preflight => {}
            Phase::Deploying { since }
            | Phase::Step { since, .. }
            | Phase::Promoting { since }
            | Phase::Controlling { since }
            | Phase::Baking { since }
            | Phase::Settling { since }
            | Phase::RollingBack { since, .. }
            | Phase::Ended { at: since, .. } => *since = SINCE,
        }
        self
    }
}

fn events(baseline: Option<&Revision>) -> Vec<(Moment, Event)> {
    let candidate = revision("b").release;
    let mut sights = vec![
        Sight::Nothing,
        Sight::Coming,
        Sight::Ready(candidate),
        Sight::Ready(revision("stranger").release),
    ];
    sights.extend(baseline.map(|revision| Sight::Ready(revision.release.clone())));
    let mut events = vec![
        (SINCE, Event::Restarted),
        (SINCE, Event::Tick { said: None }),
        (LATE, Event::Tick { said: None }),
        (SINCE, Event::Checked(Err("the queue is missing".to_owned()))),
        (
            SINCE,
            Event::Checked(Ok(Facts {
                baseline: baseline.cloned(),
                ..Facts::default()
            })),
        ),
        (SINCE, Event::Redriven(Ok("3".to_owned()))),
        (SINCE, Event::Redriven(Err("no".to_owned()))),
    ];
    for canary in &sights {
        for stable in &sights {
            let (canary, stable) = (canary.clone(), stable.clone());
            events.push((SINCE, Event::Seen(Seen { canary, stable })));
        }
    }
    for decision in [
        Decision::Promote,
        Decision::Rollback,
        Decision::Continue,
        Decision::Inconclusive,
    ] {
        for (suspected, step_done) in [(false, false), (false, true), (true, false)] {
            let judgement = Judgement {
                decision,
                suspected,
                step_done,
                messages: 0,
                findings: Vec::new(),
                above_ceiling: false,
            };
            events.push((SINCE, Event::Judged(judgement)));
        }
    }
    events.extend(asks().into_iter().map(|ask| (SINCE, Event::Asked(ask))));
    events
}

fn asks() -> Vec<Ask> {
    let (by, why) = (String::new(), String::new());
    let pause = |shut| Ask::Pause {
        by: String::new(),
        why: String::new(),
        seconds: None,
        shut,
    };
    vec![
        pause(false),
        pause(true),
        Ask::Resume { by: by.clone() },
        Ask::Promote {
            by: by.clone(),
            why: why.clone(),
        },
        Ask::Abort { by, why },
        Ask::Supersede {
            release: revision("c").release,
        },
    ]
}

struct Walk {
    course: Course,
    baseline: Option<Revision>,
    kind: Kind,
    nodes: Vec<Node>,
    edges: Vec<(usize, Event, usize, Transition)>,
}

impl Walk {
    fn all(kind: Kind, baseline: Option<Revision>, inconclusive: Inconclusive, redrive: bool) -> Self {
        let mut plan = Plan::read(include_str!("../../../plans/usual.toml")).unwrap();
        plan.inconclusive = inconclusive;
        plan.redrive.after_rollback = redrive;
        let course = Course::new(plan);
        let begun = begin(kind.clone(), revision("b"), SINCE);
        let first = Node {
            state: begun.state,
            world: World::before(baseline.as_ref()),
        };
        let mut walk = Self {
            course,
            baseline,
            kind,
            nodes: Vec::new(),
            edges: Vec::new(),
        };
        let (mut known, mut todo) = (BTreeMap::new(), VecDeque::new());
        known.insert(first.key(), 0);
        walk.nodes.push(first);
        todo.push_back(0);
        let events = events(walk.baseline.as_ref());
        while let Some(from) = todo.pop_front() {
            for (now, event) in &events {
                let node = walk.nodes[from].clone();
                let transition = step(&walk.course, &node.state, *now, event);
                let mut world = node.world;
                world.apply(&transition.actions);
                let state = transition.state.clone();
                let next = Node { state, world }.normalised();
                let to = *known.entry(next.key()).or_insert_with(|| {
                    walk.nodes.push(next);
                    todo.push_back(walk.nodes.len() - 1);
                    walk.nodes.len() - 1
                });
                walk.edges.push((from, event.clone(), to, transition));
            }
        }
        walk
    }

    fn bad(&self) -> Option<Release> {
        match self.kind {
            Kind::Canary | Kind::SkipCanary { .. } => Some(revision("b").release),
            Kind::Restore { .. } => self.baseline.as_ref().map(|revision| revision.release.clone()),
        }
    }
}

fn walks() -> Vec<Walk> {
    let reason = || "because".to_owned();
    let mut walks = Vec::new();
    for inconclusive in [Inconclusive::Hold, Inconclusive::Rollback] {
        for redrive in [true, false] {
            for baseline in [Some(revision("a")), None] {
                for kind in [Kind::Canary, Kind::SkipCanary { reason: reason() }] {
                    walks.push(Walk::all(kind, baseline.clone(), inconclusive, redrive));
                }
            }
            let restore = Kind::Restore { reason: reason() };
            walks.push(Walk::all(restore, Some(revision("a")), inconclusive, redrive));
        }
    }
    walks
}

fn is_rolling_back(state: &State) -> bool {
    matches!(state.phase, Phase::RollingBack { .. })
}

#[test]
fn there_is_something_to_walk() {
    let walks = walks();
    let nodes: usize = walks.iter().map(|walk| walk.nodes.len()).sum();
    let edges: usize = walks.iter().map(|walk| walk.edges.len()).sum();
    println!("{} walks, {nodes} states, {edges} transitions", walks.len());
    assert!(walks[0].nodes.len() > 60, "{}", walks[0].nodes.len());
    for phase in [
        "Preflight",
        "Deploying",
        "index: 2",
        "Promoting",
        "Controlling",
        "Baking",
        "Settling",
        "Restore",
        "Remove",
        "Redrive",
        "Promoted",
        "RolledBack",
        "Refused",
    ] {
        assert!(
            walks[0]
                .nodes
                .iter()
                .any(|node| format!("{:?}", node.state).contains(phase)),
            "{phase} is never reached"
        );
    }
}

#[test]
fn at_the_end_one_release_runs_and_it_is_the_right_one() {
    for walk in walks() {
        for node in &walk.nodes {
            let Some(outcome) = node.state.outcome() else {
                continue;
            };
            let good = walk.baseline.as_ref().map(|revision| revision.release.clone());
            let candidate = Some(revision("b").release);
            let expected = match outcome {
                Outcome::Promoted | Outcome::Restored => candidate,
                Outcome::RolledBack | Outcome::Refused => good,
            };
            assert_eq!(node.world.stable, expected, "{node:?}");
            assert_eq!(node.world.recorded, expected, "{node:?}");
            assert_eq!(node.world.canary, None, "{node:?}");
        }
    }
}

#[test]
fn stable_is_only_ever_one_of_the_two_and_the_new_one_only_by_promotion() {
    for walk in walks() {
        for (from, event, to, _) in &walk.edges {
            let (before, after) = (&walk.nodes[*from], &walk.nodes[*to]);
            if before.world.stable == after.world.stable {
                continue;
            }
            if after.world.stable == Some(revision("b").release) {
                let told = matches!(after.state.phase, Phase::Promoting { .. });
                assert!(told, "{event:?} {after:?}");
                let asked = matches!(event, Event::Asked(Ask::Promote { .. }));
                let judged = matches!(
                    event,
                    Event::Judged(Judgement {
                        decision: Decision::Promote,
                        suspected: false,
                        ..
                    })
                );
                let direct = matches!(event, Event::Checked(Ok(_))) && walk.kind != Kind::Canary;
                assert!(asked || judged || direct, "{event:?}");
            } else {
                assert!(is_rolling_back(&after.state), "{event:?} {after:?}");
            }
        }
    }
}

#[test]
fn nothing_is_rolled_back_to_what_is_being_rolled_back() {
    for walk in walks() {
        let bad = walk.bad();
        for (from, event, to, transition) in &walk.edges {
            let (before, after) = (&walk.nodes[*from].state, &walk.nodes[*to].state);
            let back = is_rolling_back(after) || matches!(walk.kind, Kind::Restore { .. });
            for action in transition.actions.iter().filter(|_| back) {
                let runs = match action {
                    Action::RunStable { revision } | Action::RunCanary { revision, .. } => {
                        Some(&revision.release)
                    }
                    Action::Record { revision } => revision.as_ref().map(|revision| &revision.release),
                    Action::Check
                    | Action::Limit { .. }
                    | Action::StopCanary
                    | Action::StopStable
                    | Action::Redrive { .. } => None,
                };
                assert!(runs.is_none() || runs != bad.as_ref(), "{event:?} {action:?}");
            }
            if is_rolling_back(before) {
                assert!(
                    is_rolling_back(after) || after.outcome().is_some(),
                    "{event:?} {after:?}"
                );
                assert_ne!(after.outcome(), Some(Outcome::Promoted));
            }
        }
    }
}

#[test]
fn the_good_release_is_never_scaled_down_and_a_bad_one_never_gets_an_open_gate() {
    for walk in walks() {
        for (from, event, to, transition) in &walk.edges {
            let (before, after) = (&walk.nodes[*from], &walk.nodes[*to]);
            if transition.actions.contains(&Action::StopStable) {
                assert_eq!(walk.baseline, None, "{event:?}");
            }
            // The control group carries the work in a rollback until the stable service was *seen* to run the good release.
            if let Some((release, Count::Full)) = &before.world.canary
                && after.world.canary != before.world.canary
            {
                assert_eq!(Some(release), before.world.stable.as_ref(), "{event:?}");
                let seen = matches!(event, Event::Seen(Seen { stable: Sight::Ready(found), .. }) if found == release);
                assert!(seen, "{event:?} {after:?}");
            }
            // Open is for the good release, for a first one, or for what was seen to be the control group.
            if after.world.limit == Some(Limit::Open) && walk.baseline.is_some() {
                let (release, _) = after.world.canary.as_ref().unwrap();
                assert_eq!(
                    Some(release),
                    walk.baseline.as_ref().map(|revision| &revision.release),
                    "{after:?}"
                );
            }
        }
    }
}

#[test]
fn suspicion_cuts_at_once_and_conviction_rolls_back_even_what_is_held() {
    for walk in walks() {
        for (from, event, to, transition) in &walk.edges {
            let (before, after) = (&walk.nodes[*from].state, &walk.nodes[*to]);
            let Event::Judged(judgement) = event else { continue };
            if !before.is_judged() {
                assert_eq!(transition.actions, [], "{event:?} {before:?}");
                continue;
            }
            if judgement.decision == Decision::Rollback {
                assert!(is_rolling_back(&after.state), "{before:?}");
            } else if judgement.suspected
                && matches!(after.state.phase, Phase::Step { .. })
                && walk.baseline.is_some()
            {
                assert!(
                    matches!(after.world.limit, Some(Limit::Trickle { .. } | Limit::Shut)),
                    "{after:?}"
                );
            }
        }
    }
}

#[test]
fn a_pause_is_always_possible_and_holds() {
    for walk in walks() {
        for (from, event, to, transition) in &walk.edges {
            let (before, after) = (&walk.nodes[*from].state, &walk.nodes[*to].state);
            if matches!(event, Event::Asked(Ask::Pause { .. })) && before.outcome().is_none() {
                if is_rolling_back(before) {
                    assert!(transition.refused.is_some());
                } else {
                    assert!(after.hold.is_some() && transition.refused.is_none(), "{before:?}");
                }
            }
            // Held means: nothing but harm, a person, or time moves it.
            let moves = matches!(event, Event::Asked(_) | Event::Tick { .. })
                || matches!(
                    event,
                    Event::Judged(Judgement {
                        decision: Decision::Rollback,
                        ..
                    })
                );
            if before.hold.is_some() && !moves {
                assert_eq!(before.phase, after.phase, "{event:?}");
            }
        }
    }
}

#[test]
fn every_state_has_a_way_out_and_the_end_is_the_end() {
    for walk in walks() {
        let mut out: Vec<bool> = walk
            .nodes
            .iter()
            .map(|node| node.state.outcome().is_some())
            .collect();
        loop {
            let mut grew = false;
            for (from, _, to, _) in &walk.edges {
                if out[*to] && !out[*from] {
                    out[*from] = true;
                    grew = true;
                }
            }
            if !grew {
                break;
            }
        }
        for (node, out) in walk.nodes.iter().zip(out) {
            assert!(out, "no way out of {node:?}");
        }
        for (from, event, to, transition) in &walk.edges {
            if walk.nodes[*from].state.outcome().is_some() {
                assert_eq!((from, transition.actions.len()), (to, 0), "{event:?}");
            }
        }
    }
}

#[test]
fn what_there_is_no_room_for_is_refused_and_what_was_before_is_put_back_all_the_same() {
    for walk in walks() {
        let facts = Facts {
            baseline: walk.baseline.clone(),
            lacks: vec!["no room".to_owned()],
        };
        let begun = &walk.nodes[0].state;
        assert_eq!(begun.phase, Phase::Preflight);
        let after = step(&walk.course, begun, SINCE, &Event::Checked(Ok(facts)));
        let trouble = Happening::Trouble {
            text: "no room".to_owned(),
        };
        if matches!(walk.kind, Kind::Restore { .. }) {
            assert!(matches!(after.state.phase, Phase::Promoting { .. }), "{after:?}");
            assert!(after.happened.contains(&trouble), "{after:?}");
        } else {
            assert_eq!(after.state.outcome(), Some(Outcome::Refused));
            assert!(after.state.reason().unwrap().to_string().contains("no room"));
        }
    }
}

#[test]
fn an_abort_undoes_whatever_stood() {
    for walk in walks()
        .iter()
        .filter(|walk| !matches!(walk.kind, Kind::Restore { .. }))
    {
        let good = walk.baseline.as_ref().map(|revision| revision.release.clone());
        for node in walk
            .nodes
            .iter()
            .filter(|node| node.state.outcome().is_none() && !is_rolling_back(&node.state))
        {
            let stood = standing(&walk.course, &node.state);
            let mut node = node.clone();
            let mut feed = |event: &Event| {
                let transition = step(&walk.course, &node.state, SINCE, event);
                node.world.apply(&transition.actions);
                node.state = transition.state;
                node.world.clone()
            };
            let why = String::new();
            let mut world = feed(&Event::Asked(Ask::Abort { by: why.clone(), why }));
            // The fleet becomes what it was told to be, the canary service first.
            for _ in 0..4 {
                let sight = |release: Option<&Release>| {
                    release.map_or(Sight::Nothing, |release| Sight::Ready(release.clone()))
                };
                let canary = sight(world.canary.as_ref().map(|(release, _)| release));
                let stable = sight(world.stable.as_ref());
                feed(&Event::Seen(Seen { canary, stable }));
                world = feed(&Event::Redriven(Ok(String::new())));
            }
            assert!(node.state.outcome().is_some(), "{node:?}");
            assert_eq!(
                (&world.stable, &world.recorded, &world.canary),
                (&good, &good, &None),
                "{stood:?}"
            );
        }
    }
}

#[test]
fn a_tool_started_again_does_what_the_one_before_would_have_done() {
    for walk in walks() {
        for (from, event, to, _) in &walk.edges {
            // Written down, then killed before any action: the restart finds the old world and the new state.
            let (before, after) = (&walk.nodes[*from], &walk.nodes[*to]);
            let again = step(&walk.course, &after.state, SINCE, &Event::Restarted);
            assert_eq!(again.state, after.state);
            let mut world = before.world.clone();
            world.apply(&again.actions);
            if world.limit != after.world.limit {
                // What no phase needs any more is not repeated: the canary that it limits is gone.
                assert!(after.world.canary.is_none(), "{event:?} {after:?}");
                world.limit = after.world.limit;
            }
            assert_eq!(world, after.world, "{event:?}");
        }
    }
}
