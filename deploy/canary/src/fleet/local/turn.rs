//! Whose turn it is to look after the processes: of a rollout, or of `canary fleet`. Two at once would undo each other's work.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::failed;
use crate::fleet::FleetError;

/// The lock of a file in the fleet's directory, held until it is dropped. The system frees it when its process dies.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

/// How often one that is taken is tried again.
const AGAIN: Duration = Duration::from_millis(20);

impl Turn {
    /// Takes the turn, unless somebody has it.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn try_take(directory: &Path) -> Result<Option<Self>, FleetError> {
        let path = directory.join("fleet.lock");
        let lock = File::create(&path).map_err(|error| failed(&path, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(&path, &error)),
        }
    }

    /// Takes the turn as soon as it is free. None when it is not `within` that time.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub async fn take(directory: &Path, within: Duration) -> Result<Option<Self>, FleetError> {
        let until = Instant::now() + within;
        loop {
            let turn = Self::try_take(directory)?;
            if turn.is_some() || Instant::now() >= until {
                return Ok(turn);
            }
            sleep(AGAIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let turn = Turn::try_take(directory.path()).unwrap();
        assert!(turn.is_some());
        assert!(Turn::try_take(directory.path()).unwrap().is_none());
        let waiting = Turn::take(directory.path(), Duration::from_secs(30));
        let (taken, ()) = tokio::join!(waiting, async { drop(turn) });
        assert!(taken.unwrap().is_some());
    }
}
