//! Answers to those who fail again and again come late.
//!
//! There is nothing to guess in 256 random bits; what this keeps bounded is the log and the work that a broken or
//! hostile client makes. A good token is never kept waiting, whoever shares its address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Length of the window in which failures are counted.
const WINDOW_NS: u64 = 60_000_000_000;
/// Failures in a window that are answered at once.
const FREE: u32 = 10;
/// How late further answers come.
const DELAY: Duration = Duration::from_secs(1);
/// Addresses that are remembered; beyond it the oldest is forgotten.
const ADDRESSES_MAX: usize = 4_096;

#[derive(Debug, Clone, Copy)]
struct Window {
    since_ns: u64,
    failures: u32,
}

/// Counts failures by address.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<BTreeMap<IpAddr, Window>>);

impl Throttle {
    /// Counts a failure and returns how long its answer waits.
    pub fn failed(&self, from: IpAddr, now_ns: u64) -> Duration {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= ADDRESSES_MAX && !windows.contains_key(&from) {
            windows.retain(|_, window| now_ns.saturating_sub(window.since_ns) < WINDOW_NS);
            let oldest = windows.iter().min_by_key(|(_, window)| window.since_ns).map(|(ip, _)| *ip);
            if let (true, Some(oldest)) = (windows.len() >= ADDRESSES_MAX, oldest) {
                windows.remove(&oldest);
            }
        }
        let window = windows.entry(from).or_insert(Window { since_ns: now_ns, failures: 0 });
        if now_ns.saturating_sub(window.since_ns) >= WINDOW_NS {
            *window = Window { since_ns: now_ns, failures: 0 };
        }
        window.failures = window.failures.saturating_add(1);
        if window.failures > FREE { DELAY } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn the_eleventh_failure_in_a_minute_waits_and_a_new_minute_is_new() {
        let throttle = Throttle::default();
        let one = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
        for number in 0..10 {
            assert_eq!(throttle.failed(one, number), Duration::ZERO);
        }
        assert_eq!(throttle.failed(one, 11), DELAY);
        assert_eq!(throttle.failed(IpAddr::from(Ipv4Addr::new(192, 0, 2, 2)), 11), Duration::ZERO);
        assert_eq!(throttle.failed(one, WINDOW_NS + 1), Duration::ZERO);
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::default();
        for number in 0..10_000u32 {
            throttle.failed(IpAddr::from(Ipv4Addr::from(number)), u64::from(number));
        }
        assert!(throttle.0.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
