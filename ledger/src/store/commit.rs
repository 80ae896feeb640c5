//! The committer: writes a group in one atomic batch, flushes, and only then acknowledges; signs checkpoints.
//!
//! INVARIANT: a ticket is settled with receipts after both the WAL and the lock are on the disk.
//! INVARIANT: after any failure of a write or flush nothing is acknowledged until the ledger is reopened
//! (a failed fsync may have dropped the pages that it was to write).

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rocksdb::{DB, WriteOptions};

use super::Head;
use super::error::{AppendError, LedgerError};
use super::families::{CHECKPOINTS, family};
use super::lock::{LockFile, LockState};
use super::prepare::{self, PreparedBatch};
use super::queue::{CloseOnDrop, Outcome, Queue, Receipts, Ticket, Waiting, WriterHandle};
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
    /// Write a group, of which some batches were refused before they had a position.
    Write(Box<Built>, Vec<Option<AppendError>>, Ticket<Receipts>),
    /// The group could not be built: the database cannot be read, and nothing may go on.
    Failed(LedgerError, Ticket<Receipts>),
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
    pub(super) flusher: LockFlusher,
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

/// What the threads of the writer and its callers share.
pub(super) struct Pipe {
    sequencer: Mutex<Sequencer>,
    committer: Mutex<Committer>,
    /// Groups that have positions and are not written: changes only while the sequencer (up) or the committer (down)
    /// is held.
    handed: AtomicUsize,
}

impl std::fmt::Debug for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipe").field("handed", &self.handed).finish_non_exhaustive()
    }
}

/// Starts the threads of the writer: one gives positions, one writes and flushes, one flushes the lock.
pub(super) fn spawn(sequencer: Sequencer, committer: Committer) -> Result<WriterHandle, LedgerError> {
    let queue = Arc::new(Queue::new());
    let pipe = Arc::new(Pipe {
        sequencer: Mutex::new(sequencer),
        committer: Mutex::new(committer),
        handed: AtomicUsize::new(0),
    });
    // One group waits built while the one before it is flushed; more would only make acknowledgements later.
    let (work, works) = sync_channel(0);
    let committing = start_thread("ledger-commit", {
        let pipe = Arc::clone(&pipe);
        move || pipe.commit(&works)
    })?;
    let sequencing = start_thread("ledger-sequence", {
        let (pipe, close) = (Arc::clone(&pipe), CloseOnDrop(Arc::clone(&queue)));
        move || pipe.sequence(&close.0, &work)
    })?;
    Ok(WriterHandle::new(queue, pipe, vec![sequencing, committing]))
}

fn start_thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LedgerError> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(run).map_err(|source| LedgerError::Io { path: format!("{name} thread").into(), source })
}

impl Pipe {
    /// Builds what waits until the queue is closed and empty, or a group cannot be built.
    fn sequence(&self, queue: &Queue, work: &SyncSender<Work>) {
        while let Some(group) = queue.take() {
            if !group.batches.is_empty() {
                let mut sequencer = self.sequencer();
                let (batches, refused) = prepare_given(group.batches, &sequencer);
                match sequencer.build(&batches) {
                    Ok(built) => {
                        self.handed.fetch_add(1, Ordering::SeqCst);
                        // Still holding the sequencer: groups are handed over in the order of their positions. A
                        // committer that is gone shows in the tickets.
                        let _ = work.send(Work::Write(Box::new(built), refused, group.ticket));
                    }
                    Err(error) => {
                        let _ = work.send(Work::Failed(error, group.ticket));
                        return;
                    }
                }
            }
            if let Some(ticket) = group.settle {
                let _ = work.send(Work::Settle(ticket));
            }
        }
    }

    fn commit(&self, works: &Receiver<Work>) {
        loop {
            self.committer().take_signature();
            let work = works.recv_timeout(IDLE);
            let mut committer = self.committer();
            match work {
                Ok(Work::Write(built, refused, ticket)) => {
                    let outcome = committer.write(*built);
                    self.handed.fetch_sub(1, Ordering::SeqCst);
                    ticket.settle(outcome.map(|receipts| each_outcome(receipts, refused)));
                    // A ledger that is never idle is signed too.
                    committer.begin_checkpoint_when_due();
                }
                Ok(Work::Failed(error, ticket)) => ticket.settle(Err(committer.fail(&error))),
                Ok(Work::Settle(ticket)) => committer.settle(ticket),
                Err(RecvTimeoutError::Timeout) => committer.idle(),
                Err(RecvTimeoutError::Disconnected) => {
                    // The last caller is gone; what is not settled now is settled at the next open.
                    if let Err(error) = committer.close() {
                        tracing::error!(%error, "the ledger was closed without a final checkpoint");
                    }
                    return;
                }
            }
        }
    }

    /// Writes a batch in the caller's own thread when nothing else is under way: a writer that is alone would pay for
    /// three changes of thread what the flush costs. `None` when something is.
    ///
    /// INVARIANT: with the sequencer and the committer held and nothing handed over between them, the next group in
    /// the order of positions is this one.
    pub(super) fn append_alone(
        &self,
        batch: &PreparedBatch,
        queue: &Queue,
    ) -> Option<Result<Receipt, AppendError>> {
        let (mut sequencer, mut committer) =
            (self.sequencer.try_lock().ok()?, self.committer.try_lock().ok()?);
        if self.handed.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let outcome = match sequencer.build(std::slice::from_ref(batch)) {
            Ok(built) => committer.write(built),
            Err(error) => {
                // As after a group that could not be built: the sequencer is not used again.
                queue.close();
                Err(committer.fail(&error))
            }
        };
        committer.begin_checkpoint_when_due();
        drop((sequencer, committer));
        Some(outcome.map(|mut receipts| receipts.pop().unwrap_or_default()))
    }

    fn sequencer(&self) -> MutexGuard<'_, Sequencer> {
        self.sequencer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn committer(&self) -> MutexGuard<'_, Committer> {
        self.committer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Prepares what the callers left to be prepared; tells for each batch of the group whether it was refused.
fn prepare_given(
    waiting: Vec<Waiting>,
    sequencer: &Sequencer,
) -> (Vec<PreparedBatch>, Vec<Option<AppendError>>) {
    let (sealer, origin, all) = (&*sequencer.sealer, &sequencer.origin, waiting.len());
    let prepared = waiting.into_iter().map(|batch| match batch {
        Waiting::Prepared(batch) => Ok(batch),
        Waiting::Given(batch) => prepare::prepare(batch, sealer, origin),
    });
    let mut batches = Vec::with_capacity(all);
    let mut refused = Vec::with_capacity(all);
    for prepared in prepared {
        match prepared {
            Ok(batch) => {
                batches.push(batch);
                refused.push(None);
            }
            Err(error) => refused.push(Some(error)),
        }
    }
    (batches, refused)
}

/// Gives each batch of a group its outcome: the refusal, or the next receipt.
fn each_outcome(receipts: Vec<Receipt>, refused: Vec<Option<AppendError>>) -> Receipts {
    let mut receipts = receipts.into_iter();
    let outcome = |refusal: Option<AppendError>| -> Outcome<Receipt> {
        refusal.map_or_else(|| Ok(receipts.next().unwrap_or_default()), Err)
    };
    refused.into_iter().map(outcome).collect()
}

impl Committer {
    /// A group could not be built: the database cannot be read, and nothing may go on.
    fn fail(&mut self, error: &LedgerError) -> AppendError {
        match self.check_poisoned() {
            Err(error) => error,
            Ok(()) => self.poison(&error.to_string(), false),
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
    fn write(&mut self, built: Built) -> Result<Vec<Receipt>, AppendError> {
        self.check_poisoned()?;
        let Built { batch, frontier, link, subjects, receipts } = built;
        // A group of nothing but duplicates writes nothing; what it names is durable, as it comes after it.
        if !batch.is_empty() {
            let mut lock_state = self.level_state();
            lock_state.in_flight = frontier.size();
            self.flusher.start(lock_state.clone());
            let mut durable = WriteOptions::default();
            durable.set_sync(true);
            let written = self.db.write_opt(batch, &durable);
            let lock_written = self.flusher.finish();
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
pub(super) struct LockFlusher {
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
    pub(super) fn spawn(lock: Arc<LockFile>) -> Result<Self, LedgerError> {
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
