//! Rollouts with real processes: the binary, its workers, signals, and the embedded queue.
//!
//! Two at a time: the machine of CI has two cores.

mod ground;
mod killed;
mod people;
mod releases;
mod sick;
