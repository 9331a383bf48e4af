//! Remembers what is done, so that a second delivery is deleted instead of processed.
//!
//! SQS may deliver a message again although it was deleted, and a deletion by an old handle may succeed without
//! deleting anything.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Ids of messages that are done: the latest so many.
///
/// Found by their numbers in the order: a table of numbers is a sixth of one of ids, and every look into it is a miss of the cache.
#[derive(Debug)]
pub struct DoneIds {
    capacity: usize,
    order: VecDeque<Id>,
    /// The number of the first in `order`; numbers wrap round.
    first: u32,
    numbers: HashTable<u32>,
    /// SQS makes the ids, nobody else: no need for a hash that withstands an attack.
    hasher: RandomState,
}

/// SQS's ids are UUIDs, which fit into 16 bytes. A hash would be as small, but a collision would lose a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Id {
    Uuid(u128),
    Other(Box<str>),
}

/// What each byte is as a lower-case digit. Upper case is another id than lower case: it must not fold into the same.
const DIGITS: [u8; 256] = {
    let mut digits = [NONE; 256];
    let mut digit = 0;
    while digit < 16 {
        digits[b"0123456789abcdef"[digit as usize] as usize] = digit;
        digit += 1;
    }
    digits
};

/// No digit; has a bit that no digit has.
const NONE: u8 = 0x80;

impl Id {
    fn new(id: &str) -> Self {
        Self::uuid(id.as_bytes()).map_or_else(|| Self::Other(id.into()), Self::Uuid)
    }

    fn uuid(id: &[u8]) -> Option<u128> {
        let id: &[u8; 36] = id.try_into().ok()?;
        let (mut value, mut seen) = (0_u128, 0);
        for (from, to) in [(0, 8), (9, 13), (14, 18), (19, 23), (24, 36)] {
            let mut part = 0_u64;
            for &byte in &id[from..to] {
                let digit = DIGITS[usize::from(byte)];
                seen |= digit;
                part = part << 4 | u64::from(digit & 0xf);
            }
            value = value << (4 * (to - from)) | u128::from(part);
        }
        let hyphens = [8, 13, 18, 23].iter().all(|&at| id[at] == b'-');
        (seen & NONE == 0 && hyphens).then_some(value)
    }
}

impl DoneIds {
    /// Remembers up to `capacity` ids (2^32 − 1 at most), 40 bytes each or so; the oldest is forgotten first.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.min(u32::MAX as usize),
            order: VecDeque::new(),
            first: 0,
            numbers: HashTable::new(),
            hasher: RandomState::default(),
        }
    }

    /// Remembers an id.
    pub fn insert(&mut self, id: &str) {
        let id = Id::new(id);
        let hash = self.hasher.hash_one(&id);
        if self.capacity == 0 || self.find(hash, &id) {
            return;
        }
        if self.order.len() == self.capacity {
            self.forget_oldest();
        }
        let Ok(place) = u32::try_from(self.order.len()) else {
            return; // never: the capacity is less
        };
        self.order.push_back(id);
        let (order, first, hasher) = (&self.order, self.first, &self.hasher);
        // Every number in the table has its id.
        let hash_of = |number: &u32| at(order, first, *number).map_or(0, |id| hasher.hash_one(id));
        self.numbers
            .insert_unique(hash, first.wrapping_add(place), hash_of);
    }

    /// Whether the id is remembered.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        let id = Id::new(id);
        self.find(self.hasher.hash_one(&id), &id)
    }

    fn find(&self, hash: u64, id: &Id) -> bool {
        let same = |number: &u32| at(&self.order, self.first, *number) == Some(id);
        self.numbers.find(hash, same).is_some()
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.order.pop_front() else {
            return;
        };
        let number = self.first;
        self.first = number.wrapping_add(1);
        if let Ok(entry) = self
            .numbers
            .find_entry(self.hasher.hash_one(&oldest), |other| *other == number)
        {
            entry.remove();
        }
    }

    /// How many ids are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

fn at(order: &VecDeque<Id>, first: u32, number: u32) -> Option<&Id> {
    order.get(number.wrapping_sub(first) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_id_is_forgotten_first() {
        let mut done = DoneIds::new(2);
        for id in ["a", "b", "b", "c"] {
            done.insert(id);
        }
        assert_eq!(["a", "b", "c"].map(|id| done.contains(id)), [false, true, true]);
        assert_eq!(done.len(), 2);
    }

    /// As a set and a queue would: through many turns of the table, and where the numbers wrap round.
    #[test]
    fn it_remembers_what_a_set_would() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut done = DoneIds {
            first: u32::MAX - 500,
            ..DoneIds::new(100)
        };
        let mut latest: VecDeque<String> = VecDeque::new();
        for _ in 0..5_000 {
            let id = format!("00000000-0000-0000-0000-{:012x}", rng.u32(..300));
            assert_eq!(done.contains(&id), latest.contains(&id));
            done.insert(&id);
            if !latest.contains(&id) {
                latest.push_back(id);
            }
            if latest.len() > 100 {
                latest.pop_front();
            }
            assert_eq!(done.len(), latest.len());
        }
    }

    #[test]
    fn ids_that_look_alike_are_told_apart() {
        let uuid = "0f0e0d0c-0b0a-4908-8706-050403020100";
        let mut done = DoneIds::new(8);
        done.insert(uuid);
        assert!(done.contains(uuid));
        for other in [
            "0F0E0D0C-0B0A-4908-8706-050403020100",
            "0f0e0d0c0b0a49088706050403020100",
            "0f0e0d0c-0b0a-4908-8706-050403020101",
            "0f0e0d0c-0b0a-4908-8706-05040302010-",
        ] {
            assert!(!done.contains(other), "{other}");
        }
    }

    #[test]
    fn a_memory_of_nothing_remembers_nothing() {
        let mut done = DoneIds::new(0);
        done.insert("a");
        assert!(done.is_empty());
    }
}
