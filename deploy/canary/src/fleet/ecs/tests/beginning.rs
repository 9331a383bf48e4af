//! Whether a rollout begins.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_rollout_begins_only_where_there_is_room_for_it() {
    type Change = fn(&mut World);
    // One canary task beside three of stable, of 0.25 vCPU each; the promotion may start three at once, and needs one.
    let cases: [(Change, Option<&str>, &[&str]); 6] = [
        (|_| {}, None, &[]),
        (
            |world| world.subnets.values_mut().for_each(|free| *free = 0),
            Some(
                "addresses in the subnets subnet-a (0), subnet-b (0): free are 0; expected 2 at least, for canary tasks (1) and the first of the promotion (1)",
            ),
            &[],
        ),
        (
            |world| world.vcpus = Some((99.75, 100.0)),
            Some("vCPUs of the account on Fargate, Standard/OnDemand: free are 0.25; expected 0.5 at least"),
            &[],
        ),
        (
            |world| {
                world.subnets = BTreeMap::from([("subnet-a".to_owned(), 0), ("subnet-b".to_owned(), 2)]);
                world.vcpus = Some((99.5, 100.0));
            },
            None,
            &["free are 2; 4 would be needed", "free are 0.5; 1 would be needed"],
        ),
        (
            |world| world.forbidden = ["DescribeSubnets", "GetMetricData"].map(str::to_owned).into(),
            None,
            &[
                "DescribeSubnets: UnauthorizedOperation: not for you",
                "GetMetricData: AccessDenied: not for you",
            ],
        ),
        (|world| world.vcpus = None, None, &["CloudWatch has no usage"]),
    ];
    for (change, refused, notes) in cases {
        let bench = Bench::new().await;
        bench.fake.change(change);
        let outcome = bench.to_the_end().await;
        let journal = bench.journal().await.unwrap();
        let troubles: Vec<&str> = journal
            .timeline
            .iter()
            .filter_map(|entry| {
                let Happening::Trouble { text } = &entry.happening else {
                    return None;
                };
                Some(text.as_str())
            })
            .collect();
        match refused {
            Some(text) => {
                assert!(bench.reason().await.contains(text), "{}", bench.reason().await);
                assert_eq!(bench.fake.change(|world| world.deeds.clone()), ["registered b"]);
            }
            None => assert_eq!(outcome, Outcome::Promoted, "{}", bench.reason().await),
        }
        assert_eq!(troubles.len(), notes.len(), "{troubles:?}");
        for (trouble, note) in troubles.iter().zip(notes) {
            assert!(trouble.contains(note), "{trouble}: {note}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_does_not_begin_where_something_is_wrong() {
    type Change = fn(&mut World);
    let cases: [(Change, &str); 3] = [
        (
            |world| world.alarms.push("orders-oldest-message".to_owned()),
            "orders-oldest-message is in ALARM",
        ),
        (
            |world| world.services.get_mut(CANARY).unwrap().desired = 1,
            "orders-canary is",
        ),
        (
            |world| {
                let other = world.services[STABLE].task_definition.replace(":1", ":9");
                world.parameters.insert(PINNED.to_owned(), other);
            },
            "the parameter /orders/canary/stable-task-definition says",
        ),
    ];
    for (change, expected) in cases {
        let bench = Bench::new().await;
        bench.fake.change(change);
        assert_eq!(bench.to_the_end().await, Outcome::Refused, "{expected}");
        let reason = bench.reason().await;
        assert!(reason.contains(expected), "{reason}");
        let deeds = bench.fake.change(|world| world.deeds.clone());
        assert_eq!(deeds, ["registered b"], "nothing is changed");
    }
}
