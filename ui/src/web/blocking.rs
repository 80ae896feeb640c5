//! Ledger reads, replays and verification on threads that may block.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::error::PageError;

/// Runs work that blocks on the blocking pool.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PageError> + Send + 'static,
) -> Result<T, PageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_join) => Err(PageError::Panicked),
    }
}

/// Runs heavy work when a permit is free, else asks to come back. The permit is held until the work ends, also
/// when the request that asked for it has gone.
pub(crate) async fn run_limited<T: Send + 'static>(
    permits: Arc<Semaphore>,
    what: &'static str,
    work: impl FnOnce() -> Result<T, PageError> + Send + 'static,
) -> Result<T, PageError> {
    let permit = permits.try_acquire_owned().map_err(|_| PageError::Busy { what })?;
    run(move || {
        let result = work();
        drop(permit);
        result
    })
    .await
}
