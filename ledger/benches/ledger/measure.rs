//! Time, and many threads at once.

use std::sync::Barrier;
use std::time::{Duration, Instant};

/// What one round took of the wall clock, and of the processors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

impl Took {
    pub(crate) fn of(work: impl FnOnce()) -> Self {
        let (start, cpu) = (Instant::now(), cpu_time());
        work();
        Self { wall: start.elapsed(), cpu: cpu_time().saturating_sub(cpu) }
    }
}

/// Processor time of this process, in steps of 10 ms: it says how far the code is from the processor's limit.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|field| fields.get(*field)?.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}

/// Processor time of this thread, to the nanosecond where the kernel tells it: what others on the machine do does not
/// count.
pub(crate) fn on_cpu(work: impl FnOnce()) -> Duration {
    let now = || {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        stat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
    };
    let (start, before) = (Instant::now(), now());
    work();
    match (before, now()) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => start.elapsed(),
    }
}

/// Events a second of the best round.
pub(crate) fn rate(rounds: &[Took], events: u32) -> f64 {
    f64::from(events) / rounds.iter().map(|took| took.wall).min().unwrap().as_secs_f64()
}

/// Processor microseconds an event of the best round.
pub(crate) fn cpu_us(rounds: &[Took], events: u32) -> f64 {
    1e6 * rounds.iter().map(|took| took.cpu).min().unwrap().as_secs_f64() / f64::from(events)
}

/// Lets one thread work off each list, all at once.
pub(crate) fn race<T: Send>(work: Vec<Vec<T>>, each: impl Fn(T) + Sync) -> Took {
    let ready = Barrier::new(work.len() + 1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = work
            .into_iter()
            .map(|list| {
                let (ready, each) = (&ready, &each);
                // Named, so that a profile tells them from the thread that makes the events.
                let named = std::thread::Builder::new().name("bench-writer".to_owned());
                let work = move || {
                    ready.wait();
                    list.into_iter().for_each(each);
                };
                named.spawn_scoped(scope, work).unwrap()
            })
            .collect();
        Took::of(|| {
            ready.wait();
            for thread in threads {
                thread.join().unwrap();
            }
        })
    })
}
