use std::collections::BTreeMap;

use super::memory::MemoryStore;
use super::*;
use crate::rollout::{Definition, Kind, Revision, begin};

#[cfg(feature = "ecs")]
mod localstack;

fn journal(name: &str) -> Journal {
    let revision = Revision {
        release: Release::new(name).unwrap(),
        definition: Definition::Local {
            command: vec!["worker".to_owned()],
            environment: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
        },
    };
    let now = Moment::from_millis(1_764_064_800_123);
    let begun = begin(Kind::Canary, revision, now);
    let mut journal = Journal {
        schema: SCHEMA,
        rollout: format!("{now}-{name}"),
        writes: 0,
        owner: None,
        requests: Vec::new(),
        answers: Vec::new(),
        plan: "schema = 1".to_owned(),
        state: begun.state,
        evidence: Checkpoint::default(),
        measured: Measured::default(),
        verdict: None,
        timeline: Vec::new(),
        left_out: 0,
    };
    journal.tell(now, begun.happened);
    journal
}

/// What every store must do.
async fn conforms(store: &impl Store) {
    assert!(store.read().await.unwrap().is_none());
    let stale = Version("1".to_owned());
    assert!(matches!(
        store.write(&journal("a"), Some(&stale)).await,
        Err(StoreError::Conflict)
    ));
    let first = store.write(&journal("a"), None).await.unwrap();
    assert!(matches!(
        store.write(&journal("b"), None).await,
        Err(StoreError::Conflict)
    ));
    let (read, version) = store.read().await.unwrap().unwrap();
    assert_eq!(version, first);
    assert_eq!(Journal { writes: 0, ..read }, journal("a"));
    let second = store.write(&journal("b"), Some(&first)).await.unwrap();
    assert!(matches!(
        store.write(&journal("c"), Some(&first)).await,
        Err(StoreError::Conflict)
    ));
    let third = store.write(&journal("a"), Some(&second)).await.unwrap();
    assert_ne!(third, first, "a version never comes back");
    for _ in 0..2 {
        store.archive(&journal("a")).await.unwrap();
    }
    assert_eq!(store.history().await.unwrap(), [journal("a")]);
}

#[tokio::test]
async fn the_store_in_memory_conforms() {
    conforms(&MemoryStore::default()).await;
}

#[tokio::test]
async fn the_store_of_files_conforms() {
    let directory = tempfile::tempdir().unwrap();
    conforms(&FileStore::open(directory.path()).unwrap()).await;
}

#[tokio::test]
async fn a_cut_off_or_newer_journal_is_a_clear_error_and_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::open(directory.path()).unwrap();
    let whole = serde_json::to_string(&journal("a")).unwrap();
    let newer = whole.replace("\"schema\":1", "\"schema\":2");
    for (text, expected) in [
        (&whole[..whole.len() / 2], "EOF"),
        (newer.as_str(), "schema is 2"),
        ("[]", "struct"),
        ("", "EOF"),
    ] {
        std::fs::write(store.path(), text).unwrap();
        let error = store.read().await.unwrap_err().to_string();
        assert!(
            error.contains(expected) && error.contains("journal.json"),
            "{error}"
        );
        let refused = store.write(&journal("b"), None).await;
        assert!(matches!(refused, Err(StoreError::Broken(_))), "{refused:?}");
        assert_eq!(std::fs::read_to_string(store.path()).unwrap(), text);
    }
}

/// Of writers that have read the same version at once, exactly one writes, and the journal is what it wrote.
async fn one_wins(store: impl Store + Clone + Send + Sync + 'static, rounds: usize) {
    let mut version = None;
    for _ in 0..rounds {
        // Each writes its own: a store may take the same text for its own that it has lost the answer of.
        let writers: Vec<_> = ["a", "b", "c", "d", "e", "f"]
            .map(|name| {
                let (store, version) = (store.clone(), version.clone());
                tokio::spawn(async move {
                    let written = store.write(&journal(name), version.as_ref()).await;
                    (name, written)
                })
            })
            .into();
        let mut won = Vec::new();
        for writer in writers {
            match writer.await.unwrap() {
                (name, Ok(version)) => won.push((name, version)),
                (name, Err(error)) => assert!(matches!(error, StoreError::Conflict), "{name}: {error}"),
            }
        }
        assert_eq!(won.len(), 1, "{won:?}");
        let (name, written) = won.remove(0);
        let (read, now) = store.read().await.unwrap().unwrap();
        assert_eq!(now, written);
        assert_eq!(read.state.candidate.release, Release::new(name).unwrap());
        version = Some(written);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_writers_of_a_file_at_once_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    one_wins(FileStore::open(directory.path()).unwrap(), 20).await;
}

#[test]
fn a_timeline_is_bounded_and_keeps_its_beginning() {
    let mut journal = journal("a");
    for second in 0..5000 {
        journal.tell(Moment::from_millis(second * 1000), [Happening::Suspected]);
    }
    assert_eq!(journal.timeline.len(), MAX_ENTRIES);
    assert!(matches!(journal.timeline[0].happening, Happening::Began { .. }));
    assert_eq!(
        journal.timeline[MAX_ENTRIES - 1].at,
        Moment::from_millis(4_999_000)
    );
    assert_eq!(journal.left_out, 5001 - MAX_ENTRIES as u64);
}
