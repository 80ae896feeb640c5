//! How many bytes of requests are in memory at the same time.
//!
//! A body counts from before it is read until its append is answered. Without a budget 1,024 connections with
//! 64 MiB each would be 64 GiB; with it the ones too many are asked to come back before anything of theirs is taken.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes to a permit: a semaphore counts only so far.
const UNIT: usize = 1_024;

/// There is no room now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Saturated;

/// The budget.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    permits: Arc<Semaphore>,
    units: usize,
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(UNIT)
}

impl Budget {
    /// Makes one of so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let units = units(bytes).clamp(1, Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(units)), units }
    }

    /// Returns the bytes that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.units.saturating_sub(self.permits.available_permits()).saturating_mul(UNIT)
    }

    /// Takes a share, waiting for it a while.
    pub(super) async fn take(&self, bytes: usize, patience: Duration) -> Result<Share, Saturated> {
        let wanted = u32::try_from(units(bytes).min(self.units)).map_err(|_| Saturated)?;
        let permit = Arc::clone(&self.permits).acquire_many_owned(wanted);
        match tokio::time::timeout(patience, permit).await {
            Ok(Ok(permit)) => Ok(Share { permits: Arc::clone(&self.permits), permit }),
            Ok(Err(_)) | Err(_) => Err(Saturated),
        }
    }
}

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    permits: Arc<Semaphore>,
    permit: OwnedSemaphorePermit,
}

impl Share {
    /// Makes the share at least this large. It does not wait: two that wait for each other's shares would for ever.
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<(), Saturated> {
        let missing = units(bytes).saturating_sub(self.permit.num_permits());
        if missing > 0 {
            let missing = u32::try_from(missing).map_err(|_| Saturated)?;
            let more = Arc::clone(&self.permits).try_acquire_many_owned(missing);
            self.permit.merge(more.map_err(|_| Saturated)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shares_are_bounded_and_given_back() {
        let budget = Budget::new(10 * UNIT);
        let mut one = budget.take(3 * UNIT + 1, Duration::ZERO).await.unwrap();
        assert_eq!(budget.taken(), 4 * UNIT);
        one.grow_to(10 * UNIT).unwrap();
        one.grow_to(1).unwrap();
        assert_eq!(budget.take(1, Duration::from_millis(1)).await.unwrap_err(), Saturated);
        drop(one);
        let mut one = budget.take(UNIT, Duration::ZERO).await.unwrap();
        let two = budget.take(9 * UNIT, Duration::ZERO).await.unwrap();
        assert_eq!(one.grow_to(2 * UNIT), Err(Saturated));
        drop(two);
        one.grow_to(2 * UNIT).unwrap();
        // Larger than all there is: gets everything there is, alone.
        drop(one);
        assert!(budget.take(100 * UNIT, Duration::ZERO).await.is_ok());
    }
}
