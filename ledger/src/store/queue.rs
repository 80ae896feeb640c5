//! Callers' end of the writer: one queue, whose content becomes the next group commit.
//!
//! Callers block while the queue is full. A caller waits for the outcome of its whole group, which wakes all of
//! them at once: a reply to each would cost the writer one wake-up an event.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::commit::Pipe;
use super::error::AppendError;
use super::prepare::{self, PreparedBatch};
use super::seal::Sealer;
use crate::record::{Batch, Receipt};

/// Most bytes and records that wait, and with that go into one group; a single batch may be larger.
const GROUP_BYTES_MAX: usize = 8 << 20;
const GROUP_RECORDS_MAX: usize = 16_384;

/// A batch larger than this is prepared by its caller, however many others wait.
const HANDED_OVER_BYTES_MAX: usize = 64 << 10;

/// From so many batches in a group on, the next group waits for most of its callers to come back, but not longer than
/// this: a few flushes of a fast disk.
const GATHER_FROM: usize = 8;
const LINGER: Duration = Duration::from_millis(1);

/// How something ended.
pub(super) type Outcome<T> = Result<T, AppendError>;

/// What became of a group: of each of its batches, in order.
pub(super) type Receipts = Vec<Outcome<Receipt>>;

/// Tells everybody who waits how it ended, also when nobody got around to it.
#[derive(Debug)]
pub(super) struct Ticket<T>(Arc<OnceLock<Outcome<T>>>);

impl<T> Ticket<T> {
    fn new() -> Self {
        Self(Arc::new(OnceLock::new()))
    }

    fn waiter(&self) -> Arc<OnceLock<Outcome<T>>> {
        Arc::clone(&self.0)
    }

    /// Settles it; only the first word counts.
    pub(super) fn settle(&self, outcome: Outcome<T>) {
        let _ = self.0.set(outcome);
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        self.settle(Err(stopped()));
    }
}

fn stopped() -> AppendError {
    AppendError::Poisoned { detail: "the writer has stopped".to_owned() }
}

/// A batch in the queue.
#[derive(Debug)]
pub(super) enum Waiting {
    /// As its caller gave it.
    Given(Batch),
    /// Ready for its position.
    Prepared(PreparedBatch),
}

/// What is taken from the queue at once.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) batches: Vec<Waiting>,
    pub(super) ticket: Ticket<Receipts>,
    /// Set when somebody asked for a checkpoint over everything up to here.
    pub(super) settle: Option<Ticket<()>>,
    bytes: usize,
    records: usize,
}

impl Group {
    fn new() -> Self {
        Self { batches: Vec::new(), ticket: Ticket::new(), settle: None, bytes: 0, records: 0 }
    }

    fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.settle.is_none()
    }

    fn has_room(&self, bytes: usize, records: usize) -> bool {
        self.batches.is_empty()
            || (self.bytes + bytes <= GROUP_BYTES_MAX && self.records + records <= GROUP_RECORDS_MAX)
    }
}

#[derive(Debug)]
struct State {
    group: Group,
    /// Batches that the next group is worth waiting for.
    wanted: usize,
    closed: bool,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    work: Condvar,
    room: Condvar,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State { group: Group::new(), wanted: 1, closed: false }),
            work: Condvar::new(),
            room: Condvar::new(),
        }
    }

    fn append(&self, batch: Waiting, bytes: usize, records: usize) -> Result<Receipt, AppendError> {
        let (outcome, index) = {
            let mut state = self.lock();
            while !state.closed && !state.group.has_room(bytes, records) {
                state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return Err(stopped());
            }
            let State { group, wanted, .. } = &mut *state;
            group.bytes += bytes;
            group.records += records;
            group.batches.push(batch);
            let count = group.batches.len();
            if count == 1 || count == *wanted {
                self.work.notify_one();
            }
            (group.ticket.waiter(), count - 1)
        };
        let receipts = outcome.wait().as_ref().map_err(Clone::clone)?;
        receipts.get(index).cloned().unwrap_or_else(|| Err(stopped()))
    }

    /// Tells whether the last group was a crowd.
    fn is_crowded(&self) -> bool {
        self.lock().wanted > 1
    }

    /// Tells whether nothing waits and the last group was no crowd.
    fn is_quiet(&self) -> bool {
        let state = self.lock();
        !state.closed && state.wanted <= 1 && state.group.is_empty()
    }

    fn settle(&self) -> Result<(), AppendError> {
        let outcome = {
            let mut state = self.lock();
            if state.closed {
                return Err(stopped());
            }
            let group = &mut state.group;
            self.work.notify_one();
            group.settle.get_or_insert_with(Ticket::new).waiter()
        };
        outcome.wait().clone()
    }

    /// Takes everything that waits; waits for something. `None` when the queue is closed and empty.
    pub(super) fn take(&self) -> Option<Group> {
        let mut state = self.lock();
        while state.group.is_empty() {
            if state.closed {
                return None;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // Whoever was acknowledged with many others comes back with them. Each group costs two flushes and as many
        // wake-ups, whatever its size: taking the first to come back would leave no processor for the rest.
        let gathering = |state: &mut State| {
            !state.closed && state.group.settle.is_none() && state.group.batches.len() < state.wanted
        };
        let waited = self.work.wait_timeout_while(state, LINGER, gathering);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let group = std::mem::replace(&mut state.group, Group::new());
        let taken = group.batches.len();
        state.wanted = if taken < GATHER_FROM { 1 } else { taken * 3 / 4 };
        self.room.notify_all();
        Some(group)
    }

    /// Lets nothing more in.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
        self.room.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No statement above leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the queue when the thread that empties it ends, however it ends: nobody must wait for it in vain.
pub(super) struct CloseOnDrop(pub(super) Arc<Queue>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
        // What still waits is told by its ticket.
        drop(self.0.take());
    }
}

/// The writer as its callers see it.
#[derive(Debug)]
pub(super) struct WriterHandle {
    queue: Arc<Queue>,
    pipe: Arc<Pipe>,
    threads: Vec<JoinHandle<()>>,
}

impl WriterHandle {
    pub(super) const fn new(queue: Arc<Queue>, pipe: Arc<Pipe>, threads: Vec<JoinHandle<()>>) -> Self {
        Self { queue, pipe, threads }
    }

    /// Prepares and appends; returns when the batch is durable. Blocks while the queue is full.
    ///
    /// In a crowd the sequencer prepares: hundreds of threads that each prepare one event, and then wait, would each
    /// find the processor's caches cold, which takes longer than the work.
    pub(super) fn append(&self, batch: Batch, sealer: &Sealer, origin: &str) -> Result<Receipt, AppendError> {
        if self.queue.is_crowded()
            && let Some(bytes) = prepare::weight(&batch, HANDED_OVER_BYTES_MAX)
        {
            let records = batch.records.len();
            return self.queue.append(Waiting::Given(batch), bytes, records);
        }
        self.append_prepared(prepare::prepare(batch, sealer, origin)?)
    }

    /// Appends; returns when the batch is durable. Blocks while the queue is full.
    pub(super) fn append_prepared(&self, batch: PreparedBatch) -> Result<Receipt, AppendError> {
        let alone = if self.queue.is_quiet() { self.pipe.append_alone(&batch, &self.queue) } else { None };
        alone.unwrap_or_else(|| {
            let (bytes, records) = (batch.bytes, batch.records.len());
            self.queue.append(Waiting::Prepared(batch), bytes, records)
        })
    }

    /// Signs a checkpoint over everything appended so far.
    pub(super) fn settle(&self) -> Result<(), AppendError> {
        self.queue.settle()
    }
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        // Closing the queue lets the threads write what waits, settle and end.
        self.queue.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
