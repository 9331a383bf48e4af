//! Message attributes, of the sender and of SQS.

use embedded_sqs::model::action::ReceiveMessage;
use embedded_sqs::model::{ErrorCode, MessageAttribute, MessageAttributes, MessageContent};

use crate::peer::{Got, Outcome, Peer, World, content, refused, request};

fn three() -> MessageAttributes {
    MessageAttributes::from_iter([
        ("order.id", MessageAttribute::number("42")),
        ("order.kind", MessageAttribute::string("rush")),
        ("raw", MessageAttribute::binary(vec![0, 1, 255])),
    ])
}

async fn asked<P: Peer>(world: &World<P>, url: &str, names: &[&str]) -> Outcome<Got> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let request = ReceiveMessage {
        message_attribute_names: names,
        visibility_timeout: Some(0),
        ..request(url)
    };
    Ok(world.peer.receive(request).await?.remove(0))
}

pub(crate) async fn attributes_come_back_when_asked_for<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    world
        .peer
        .send(
            &url,
            MessageContent {
                attributes: three(),
                ..content("x")
            },
        )
        .await?;
    for (names, expected) in [
        (&["All"][..], &["order.id", "order.kind", "raw"][..]),
        (&[".*"], &["order.id", "order.kind", "raw"]),
        (&["order.*"], &["order.id", "order.kind"]),
        (&["raw", "absent"], &["raw"]),
        (&[], &[]),
    ] {
        let got = asked(world, &url, names).await?;
        let given: Vec<&str> = got.attributes.iter().map(|(name, _)| name).collect();
        assert_eq!(given, expected, "asked for {names:?}");
        for (name, attribute) in got.attributes.iter() {
            assert_eq!(three().get(name), Some(attribute));
        }
    }
    Ok(())
}

pub(crate) async fn the_digest_covers_the_attributes_returned<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    let sent = world
        .peer
        .send(
            &url,
            MessageContent {
                attributes: three(),
                ..content("x")
            },
        )
        .await?;
    // Computed apart, by hashlib over the framing of the developer guide.
    assert_eq!(
        sent.attributes_md5.as_deref(),
        Some("becc2485b603c23d26d59b24b48fcc64")
    );
    assert_eq!(
        asked(world, &url, &["All"]).await?.attributes_md5,
        sent.attributes_md5
    );
    assert_eq!(
        asked(world, &url, &["order.*"]).await?.attributes_md5.as_deref(),
        Some("3f68e545a85c756a44d00253873f3974")
    );
    assert_eq!(asked(world, &url, &[]).await?.attributes_md5, None);
    Ok(())
}

pub(crate) async fn attributes_have_rules<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    let eleven = (0..11)
        .map(|n| (format!("a{n}"), MessageAttribute::string("v")))
        .collect();
    let one = |name: &str, attribute| MessageAttributes::from_iter([(name, attribute)]);
    let typed = |data_type: &str| MessageAttribute {
        data_type: data_type.into(),
        ..MessageAttribute::string("v")
    };
    let bad = [
        ("eleven", eleven),
        ("reserved name", one("AWS.x", MessageAttribute::string("v"))),
        ("dots in a row", one("a..b", MessageAttribute::string("v"))),
        ("dot in front", one(".a", MessageAttribute::string("v"))),
        ("space in the name", one("a b", MessageAttribute::string("v"))),
        ("unknown type", one("a", typed("Text"))),
        ("empty value", one("a", MessageAttribute::string(""))),
        ("no number", one("a", MessageAttribute::number("one"))),
    ];
    let mut accepted = Vec::new();
    for (what, attributes) in bad {
        let sent = world
            .peer
            .send(
                &url,
                MessageContent {
                    attributes,
                    ..content("x")
                },
            )
            .await;
        match sent {
            Ok(_) => accepted.push(what),
            refusal => refused(refusal, ErrorCode::InvalidParameterValue),
        }
    }
    assert!(accepted.is_empty(), "accepted: {accepted:?}");
    let attributes = one("a", typed("String.with-a-label"));
    world
        .peer
        .send(
            &url,
            MessageContent {
                attributes,
                ..content("x")
            },
        )
        .await?;
    Ok(())
}

pub(crate) async fn system_attributes_tell_the_story_of_a_message<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    world.send(&url, "x").await?;
    let first = ReceiveMessage {
        visibility_timeout: Some(1),
        ..request(&url)
    };
    let first = world.peer.receive(first).await?.remove(0).system;
    assert_eq!(first["ApproximateReceiveCount"], "1");
    assert!(!first["SenderId"].is_empty());
    let number = |name: &str| first[name].parse::<u64>().unwrap();
    assert!(number("SentTimestamp") <= number("ApproximateFirstReceiveTimestamp"));
    world.peer.pass(1).await;
    let second = world.receive_one(&url).await?.system;
    assert_eq!(second["ApproximateReceiveCount"], "2");
    for same in ["SentTimestamp", "ApproximateFirstReceiveTimestamp", "SenderId"] {
        assert_eq!(second[same], first[same]);
    }
    world.send(&url, "y").await?;
    let none = ReceiveMessage {
        message_system_attribute_names: Vec::new(),
        ..request(&url)
    };
    assert!(world.peer.receive(none).await?[0].system.is_empty());
    let unknown = ReceiveMessage {
        message_system_attribute_names: vec!["NoSuch".into()],
        ..request(&url)
    };
    refused(world.peer.receive(unknown).await, ErrorCode::InvalidAttributeName);
    Ok(())
}

pub(crate) async fn the_trace_header_is_a_system_attribute<P: Peer>(world: &World<P>) -> Outcome<()> {
    let url = world.queue(&[]).await?;
    let header = "Root=1-5759e988-bd862e3fe1be46a994272793";
    let trace = |name: &str| MessageAttributes::from_iter([(name, MessageAttribute::string(header))]);
    world
        .peer
        .send(
            &url,
            MessageContent {
                system_attributes: trace("AWSTraceHeader"),
                ..content("x")
            },
        )
        .await?;
    assert_eq!(world.receive_one(&url).await?.system["AWSTraceHeader"], header);
    let other = MessageContent {
        system_attributes: trace("Other"),
        ..content("x")
    };
    refused(
        world.peer.send(&url, other).await,
        ErrorCode::InvalidParameterValue,
    );
    Ok(())
}
