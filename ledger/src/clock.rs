//! Time and randomness as parameters: nothing else in this crate reads the wall clock or asks for random bytes.

use std::sync::atomic::{AtomicU64, Ordering};

/// Tells the time in Unix nanoseconds.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Returns now.
    fn now_ns(&self) -> u64;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock; callers pass it in"
    )]
    fn now_ns(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A clock for tests: starts where it is told and moves on by one microsecond a reading.
#[derive(Debug)]
pub struct SteppingClock(AtomicU64);

impl SteppingClock {
    /// Starts at a time.
    pub const fn starting_at(ns: u64) -> Self {
        Self(AtomicU64::new(ns))
    }
}

impl Clock for SteppingClock {
    fn now_ns(&self) -> u64 {
        self.0.fetch_add(1_000, Ordering::Relaxed)
    }
}

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct EntropyError;

/// Gives random bytes for keys, salts and nonces.
pub trait Entropy: Send + Sync + std::fmt::Debug {
    /// Fills a buffer.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError>;
}

/// The operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks for random bytes; callers pass it in"
    )]
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        getrandom::fill(buffer).map_err(|_| EntropyError)
    }
}

/// Repeatable bytes for tests: never the same twice from one instance, always the same from the same start.
#[derive(Debug, Default)]
pub struct SteppingEntropy(AtomicU64);

impl SteppingEntropy {
    /// Starts at a point of the sequence.
    pub const fn starting_at(seed: u64) -> Self {
        Self(AtomicU64::new(seed << 32))
    }
}

impl Entropy for SteppingEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), EntropyError> {
        for chunk in buffer.chunks_mut(32) {
            let step = self.0.fetch_add(1, Ordering::Relaxed);
            let block = blake3::hash(&step.to_le_bytes());
            for (to, from) in chunk.iter_mut().zip(block.as_bytes()) {
                *to = *from;
            }
        }
        Ok(())
    }
}
