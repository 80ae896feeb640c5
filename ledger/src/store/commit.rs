//! The committer: writes a group in one atomic batch, flushes, and only then acknowledges; signs checkpoints.
//!
//! INVARIANT: a ticket is settled with receipts after both the WAL and the lock are on the disk.
//! INVARIANT: after any failure of a write or flush nothing is acknowledged until the ledger is reopened
//! (a failed fsync may have dropped the pages that it was to write).

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rocksdb::{DB, WriteOptions};

use super::Head;
use super::error::{AppendError, LedgerError};
use super::families::{CHECKPOINTS, family};
use super::lock::{LockFile, LockState};
use super::queue::{CloseOnDrop, Queue, Ticket, WriterHandle};
use super::seal::Sealer;
use super::sequence::{Built, Sequencer};
use super::sign::{Signed, Signing};
use crate::chain::Link;
use crate::clock::Clock;
use crate::merkle::Frontier;
use crate::note::Checkpoint;
use crate::record::Receipt;

/// After so long without a group the lock is brought level.
const IDLE: Duration = Duration::from_millis(25);

/// Checkpoints are signed at most this often under load.
const CHECKPOINT_INTERVAL_NS: u64 = 1_000_000_000;

/// What the committer is told to do, in the order of the queue.
enum Work {
    /// Write a group.
    Write(Box<Built>, Ticket<Vec<Receipt>>),
    /// The group could not be built: the database cannot be read, and nothing may go on.
    Failed(LedgerError, Ticket<Vec<Receipt>>),
    /// Sign a checkpoint.
    Settle(Ticket<()>),
}

/// State of the log as it is on the disk.
pub(super) struct Committer {
    pub(super) db: Arc<DB>,
    pub(super) origin: String,
    pub(super) signing: Signing,
    /// Who waits for a checkpoint of at least so many entries.
    pub(super) waiting: Vec<(u64, Ticket<()>)>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) lock: Arc<LockFile>,
    pub(super) lock_state: LockState,
    /// What readers may see.
    pub(super) head: Arc<RwLock<Head>>,
    pub(super) frontier: Frontier,
    /// Link to the last entry.
    pub(super) link: Link,
    pub(super) last_checkpoint_size: u64,
    pub(super) last_checkpoint_ns: u64,
    pub(super) poisoned: Option<String>,
}

/// Starts the threads of the writer: one gives positions, one writes and flushes, one flushes the lock.
pub(super) fn spawn(mut sequencer: Sequencer, committer: Committer) -> Result<WriterHandle, LedgerError> {
    let queue = Arc::new(Queue::new());
    let flusher = LockFlusher::spawn(Arc::clone(&committer.lock))?;
    // One group waits built while the one before it is flushed; more would only make acknowledgements later.
    let (work, works) = sync_channel(0);
    let committing = start_thread("ledger-commit", move || committer.run(&works, &flusher))?;
    let close = CloseOnDrop(Arc::clone(&queue));
    let sequencing = start_thread("ledger-sequence", move || sequence(&mut sequencer, &close.0, &work))?;
    Ok(WriterHandle::new(queue, vec![sequencing, committing]))
}

fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LedgerError> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(run).map_err(|source| LedgerError::Io { path: format!("{name} thread").into(), source })
}

/// Builds what waits until the queue is closed and empty, or a group cannot be built.
fn sequence(sequencer: &mut Sequencer, queue: &Queue, work: &SyncSender<Work>) {
    while let Some(group) = queue.take() {
        if !group.batches.is_empty() {
            let built = match sequencer.build(&group.batches) {
                Ok(built) => Work::Write(Box::new(built), group.ticket),
                Err(error) => {
                    let _ = work.send(Work::Failed(error, group.ticket));
                    return;
                }
            };
            // A committer that is gone shows in the tickets.
            let _ = work.send(built);
        }
        if let Some(ticket) = group.settle {
            let _ = work.send(Work::Settle(ticket));
        }
    }
}

impl Committer {
    fn run(mut self, works: &Receiver<Work>, flusher: &LockFlusher) {
        loop {
            self.take_signature();
            match works.recv_timeout(IDLE) {
                Ok(Work::Write(built, ticket)) => {
                    ticket.settle(self.write(*built, flusher));
                    // A ledger that is never idle is signed too.
                    self.begin_checkpoint_when_due();
                }
                Ok(Work::Failed(error, ticket)) => {
                    let refused = self.check_poisoned();
                    ticket
                        .settle(Err(refused.err().unwrap_or_else(|| self.poison(&error.to_string(), false))));
                }
                Ok(Work::Settle(ticket)) => self.settle(ticket),
                Err(RecvTimeoutError::Timeout) => self.idle(),
                Err(RecvTimeoutError::Disconnected) => {
                    // The last caller is gone; what is not settled now is settled at the next open.
                    if let Err(error) = self.close() {
                        tracing::error!(%error, "the ledger was closed without a final checkpoint");
                    }
                    return;
                }
            }
        }
    }

    fn idle(&mut self) {
        if !self.begin_checkpoint_when_due()
            && self.poisoned.is_none()
            && let Err(error) = self.level_lock_if_behind()
        {
            tracing::error!(%error, "the lock could not be brought level");
        }
    }

    /// Begins to sign what is acknowledged, if there is something to sign and the last checkpoint is old enough. A
    /// clock that was set back must not stop the checkpoints until it has caught up.
    fn begin_checkpoint_when_due(&mut self) -> bool {
        let now = self.clock.now_ns();
        let due = self.poisoned.is_none()
            && self.frontier.size() > self.last_checkpoint_size
            && !self.signing.is_pending()
            && !self.signing.is_pausing(now)
            && now.abs_diff(self.last_checkpoint_ns) >= CHECKPOINT_INTERVAL_NS;
        if due {
            self.begin_checkpoint();
            self.take_signature();
        }
        due
    }

    fn begin_checkpoint(&mut self) {
        let (size, root) = (self.frontier.size(), self.frontier.root());
        self.signing.begin(Checkpoint { origin: self.origin.clone(), size, root });
    }

    /// Writes a group and makes it durable; on success readers see it.
    fn write(&mut self, built: Built, flusher: &LockFlusher) -> Result<Vec<Receipt>, AppendError> {
        self.check_poisoned()?;
        let Built { batch, frontier, link, subjects, receipts } = built;
        // A group of nothing but duplicates writes nothing; what it names is durable, as it comes after it.
        if !batch.is_empty() {
            let mut lock_state = self.level_state();
            lock_state.in_flight = frontier.size();
            flusher.start(lock_state.clone());
            let mut durable = WriteOptions::default();
            durable.set_sync(true);
            let written = self.db.write_opt(batch, &durable);
            let lock_written = flusher.finish();
            if let Err(error) = written {
                let text = error.to_string();
                return Err(self.poison(&text, is_full(&text)));
            }
            if let Err(error) = lock_written {
                let full = error.kind() == io::ErrorKind::StorageFull;
                return Err(self.poison(&format!("lock file: {error}"), full));
            }
            self.lock_state = lock_state;
            self.sealer.written(subjects.into_iter());
        }
        let head = Head { size: frontier.size(), root: frontier.root() };
        self.frontier = frontier;
        self.link = link;
        self.publish(head);
        Ok(receipts)
    }

    /// Signs a checkpoint over the acknowledged head, if the last one is older, and brings the lock level. Whoever
    /// asked is told when it is signed; nobody else waits.
    fn settle(&mut self, ticket: Ticket<()>) {
        let size = self.frontier.size();
        let ready = self.check_poisoned().and_then(|()| self.level_lock_if_behind());
        if ready.is_err() || size <= self.last_checkpoint_size {
            ticket.settle(ready);
            return;
        }
        self.waiting.push((size, ticket));
        if !self.signing.is_pending() {
            self.begin_checkpoint();
        }
        self.take_signature();
    }

    /// Stores a checkpoint that was signed meanwhile, and tells those who wait for it.
    fn take_signature(&mut self) {
        while let Some(signed) = self.signing.poll(self.clock.now_ns()) {
            let outcome = match signed {
                Signed::Note(size, note) => self.check_poisoned().and_then(|()| self.store(size, note)),
                Signed::Failed(detail) => Err(AppendError::Unsigned { detail }),
            };
            let (signed, failed) = (self.last_checkpoint_size, outcome.is_err());
            for (size, ticket) in std::mem::take(&mut self.waiting) {
                if failed || size <= signed {
                    ticket.settle(outcome.clone());
                } else {
                    self.waiting.push((size, ticket));
                }
            }
            // What was acknowledged while the last one was being signed and somebody waits for.
            if self.poisoned.is_none() && !self.waiting.is_empty() && !self.signing.is_pending() {
                self.begin_checkpoint();
            }
        }
    }

    /// Makes a signed checkpoint durable and visible.
    fn store(&mut self, size: u64, note: String) -> Result<(), AppendError> {
        // The lock goes first: a checkpoint that anybody can read is one that the lock knows.
        self.lock_state.checkpoint = Some(note.clone());
        self.level_lock()?;
        let db = Arc::clone(&self.db);
        let stored = family(&db, CHECKPOINTS).map_err(|error| error.to_string()).and_then(|checkpoints| {
            let mut durable = WriteOptions::default();
            durable.set_sync(true);
            db.put_cf_opt(checkpoints, size.to_be_bytes(), note, &durable).map_err(|error| error.to_string())
        });
        if let Err(detail) = stored {
            return Err(self.poison(&detail, is_full(&detail)));
        }
        self.last_checkpoint_size = size;
        self.last_checkpoint_ns = self.clock.now_ns();
        Ok(())
    }

    /// The last thing that a writer does: signs what is left, and waits for it.
    fn close(&mut self) -> Result<(), AppendError> {
        self.check_poisoned()?;
        self.level_lock_if_behind()?;
        loop {
            if !self.signing.is_pending() {
                if self.frontier.size() <= self.last_checkpoint_size {
                    return Ok(());
                }
                self.begin_checkpoint();
            }
            match self.signing.wait(self.clock.now_ns()) {
                Some(Signed::Note(size, note)) => self.store(size, note)?,
                Some(Signed::Failed(detail)) => return Err(AppendError::Unsigned { detail }),
                None => return Ok(()),
            }
        }
    }

    fn level_lock_if_behind(&mut self) -> Result<(), AppendError> {
        if self.lock_state.acked < self.frontier.size() { self.level_lock() } else { Ok(()) }
    }

    /// The next state of the lock: everything that is acknowledged, and nothing in flight.
    fn level_state(&self) -> LockState {
        let size = self.frontier.size();
        LockState {
            counter: self.lock_state.counter + 1,
            acked: size,
            root: self.frontier.root().to_string(),
            link: self.link.to_string(),
            in_flight: size,
            ..self.lock_state.clone()
        }
    }

    fn level_lock(&mut self) -> Result<(), AppendError> {
        let state = self.level_state();
        match self.lock.write(&state) {
            Ok(()) => {
                self.lock_state = state;
                Ok(())
            }
            Err(error) => {
                let full = error.kind() == io::ErrorKind::StorageFull;
                Err(self.poison(&format!("lock file: {error}"), full))
            }
        }
    }

    fn check_poisoned(&self) -> Result<(), AppendError> {
        match &self.poisoned {
            Some(detail) => Err(AppendError::Poisoned { detail: detail.clone() }),
            None => Ok(()),
        }
    }

    fn poison(&mut self, detail: &str, full: bool) -> AppendError {
        tracing::error!(detail, "a write failed; the ledger accepts nothing until it is reopened");
        self.poisoned = Some(detail.to_owned());
        AppendError::Storage { detail: detail.to_owned(), full }
    }

    fn publish(&self, head: Head) {
        *self.head.write().unwrap_or_else(PoisonError::into_inner) = head;
    }
}

fn is_full(text: &str) -> bool {
    text.contains("No space left on device")
        || text.contains("Disk quota exceeded")
        || text.contains("File too large")
}

/// Flushes the lock while the WAL is being flushed, so that an acknowledgement costs one flush in series.
struct LockFlusher {
    states: Option<Sender<LockState>>,
    results: Receiver<io::Result<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for LockFlusher {
    fn drop(&mut self) {
        self.states = None;
        // Whoever closes the ledger may open it again at once: the lock file must be let go by then.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl LockFlusher {
    fn spawn(lock: Arc<LockFile>) -> Result<Self, LedgerError> {
        let (states, work) = channel::<LockState>();
        let (done, results) = channel();
        let thread = std::thread::Builder::new()
            .name("ledger-lock".to_owned())
            .spawn(move || {
                for state in work {
                    if done.send(lock.write(&state)).is_err() {
                        return;
                    }
                }
            })
            .map_err(|source| LedgerError::Io { path: "ledger-lock thread".into(), source })?;
        Ok(Self { states: Some(states), results, thread: Some(thread) })
    }

    fn start(&self, state: LockState) {
        // A thread that is gone shows in `finish`.
        if let Some(states) = &self.states {
            let _ = states.send(state);
        }
    }

    fn finish(&self) -> io::Result<()> {
        self.results.recv().unwrap_or_else(|_| Err(io::Error::other("the lock thread has stopped")))
    }
}
