//! The same on LocalStack, smaller.

use canary::redrive::{Filter, Request};
use worker::release::Release;

use crate::world::{Extra, World, numbered, once};

#[path = "../../../../localstack/tests/endpoint.rs"]
mod endpoint;

#[tokio::test]
async fn what_a_release_failed_goes_back() {
    let Some(endpoint) = endpoint::endpoint() else {
        return;
    };
    for fifo in [false, true] {
        let world = World::new(endpoint, fifo).await;
        for (name, release) in [("bad", "2.0"), ("old", "1.9")] {
            for body in numbered(name, 12) {
                // Groups of two: a receive of ten takes whole groups, and hides nothing behind a kept half.
                let number: usize = body.rsplit('-').next().unwrap().parse().unwrap();
                let group = fifo.then(|| format!("g-{}", number / 2));
                let extra = Extra {
                    group,
                    ..Extra::default()
                };
                world
                    .bury(&body, Some(&world.story(release, "panic", 5)), extra)
                    .await;
            }
        }
        let filter = Filter {
            failed_releases: vec![Release::new("2.0").unwrap()],
            ..Filter::default()
        };
        let summary = world
            .redrive(&Request {
                filter,
                ..world.request()
            })
            .await;
        assert_eq!(
            (summary.found(), summary.moved(), summary.failure()),
            (24, 12, None),
            "{summary:?}"
        );
        assert_eq!(world.bodies(&world.main).await, once(numbered("bad", 12)));
        assert_eq!(world.bodies(&world.dead_letter).await, once(numbered("old", 12)));
        for url in [&world.main, &world.dead_letter] {
            world.client.delete_queue().queue_url(url).send().await.unwrap();
        }
    }
}
