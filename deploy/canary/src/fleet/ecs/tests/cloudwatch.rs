//! What is to be seen of a rollout in CloudWatch.

use super::*;

/// How often `value` of the series was published, and what was published last.
fn published(bench: &Bench, series: &str, value: f64) -> (usize, Option<f64>) {
    bench.fake.change(|world| {
        let values: Vec<f64> = world
            .published
            .iter()
            .filter_map(|data| data.get(series).copied())
            .collect();
        let same = values.iter().filter(|said| (**said - value).abs() < 1e-9).count();
        (same, values.last().copied())
    })
}

#[tokio::test(start_paused = true)]
async fn a_rollout_is_to_be_seen_in_cloudwatch_and_its_end_is_the_last_word() {
    let bench = Bench::new().await;
    let began = bench.now();
    assert_eq!(bench.to_the_end().await, Outcome::Promoted);
    let took = bench.now().since(began).as_secs();
    assert_eq!(
        published(&bench, "RolloutPromoted", 1.0),
        (1, Some(1.0)),
        "said once"
    );
    for over in [
        "RolloutUnderWay",
        "RolloutPhase",
        "RolloutStep",
        "CanaryShareWanted",
        "RolloutRolledBack",
    ] {
        assert_eq!(published(&bench, over, 0.0).1, Some(0.0), "{over}");
    }
    assert!(published(&bench, "RolloutPhase", 3.0).0 > 0, "a step is seen");
    assert!(published(&bench, "RolloutPhase", 6.0).0 > 0, "the bake is seen");
    assert!(
        published(&bench, "CanaryShareWanted", 25.0).0 > 0,
        "the second step's share"
    );
    let most = bench.fake.change(|world| {
        let parts = world
            .published
            .iter()
            .filter_map(|data| data.get("EvidenceForPromotion"));
        parts.copied().fold(0.0, f64::max)
    });
    assert!(most > 0.5, "the evidence grows: {most}");
    let calls = bench.fake.change(|world| world.published.len()) as u64;
    assert!(
        (took / 20..=took / 10 + 2).contains(&calls),
        "{calls} calls in {took} s"
    );
}

#[tokio::test(start_paused = true)]
async fn cloudwatch_that_takes_nothing_is_not_in_the_rollouts_way() {
    let [with, without] = [false, true].map(|takes_no_metrics| async move {
        let bench = Bench::new().await;
        bench.fake.change(|world| {
            world.takes_no_metrics = takes_no_metrics;
            world.failures.insert("b".to_owned(), 6);
        });
        let began = bench.now();
        assert_eq!(bench.to_the_end().await, Outcome::RolledBack);
        let journal = bench.journal().await.unwrap();
        let Phase::Ended { at, .. } = journal.state.phase else {
            panic!("{:?}", journal.state.phase)
        };
        let refused = bench.fake.change(|world| world.refused);
        (
            at.since(began),
            refused,
            published(&bench, "RolloutRolledBack", 1.0).0,
        )
    });
    let (with, without) = (with.await, without.await);
    assert_eq!((with.1, with.2), (0, 1));
    assert!(without.1 > 3 && without.2 == 0, "{without:?}");
    assert_eq!(with.0, without.0, "a rollout takes as long");
}
