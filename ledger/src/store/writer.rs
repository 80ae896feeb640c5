//! The one writer thread: gathers what waits, gives it positions, writes it in one atomic batch, flushes, and
//! only then acknowledges.
//!
//! INVARIANT: a reply with a receipt is sent after both the WAL and the lock are on the disk.
//! INVARIANT: after any failure of a write or flush nothing is acknowledged until the ledger is reopened
//! (a failed fsync may have dropped the pages that it was to write).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rocksdb::{DB, WriteBatch, WriteOptions};

use super::codec::{self, IdRow};
use super::error::{AppendError, LedgerError};
use super::families::{self, CHECKPOINTS, Families, family};
use super::lock::{LockFile, LockState};
use super::prepare::{Prepared, PreparedBatch};
use super::seal::Sealer;
use super::{Head, TILE_LEVELS};
use crate::chain::Link;
use crate::clock::Clock;
use crate::entry::EntryParts;
use crate::key::SigningKey;
use crate::merkle::{self, Frontier};
use crate::note::Checkpoint;
use crate::record::Receipt;

/// Requests that may wait; callers block beyond that.
const QUEUE_REQUESTS_MAX: usize = 1024;

/// Most bytes and records that one group commit takes.
const GROUP_BYTES_MAX: usize = 8 << 20;
const GROUP_RECORDS_MAX: usize = 16_384;

/// After so long without a request the lock is brought level.
const IDLE: Duration = Duration::from_millis(25);

/// Checkpoints are signed at most this often under load.
const CHECKPOINT_INTERVAL_NS: u64 = 1_000_000_000;

type Reply<T> = Sender<Result<T, AppendError>>;

pub(super) enum Request {
    Append(Box<PreparedBatch>, Reply<Receipt>),
    Settle(Reply<()>),
}

/// Callers' end of the writer.
#[derive(Debug)]
pub(super) struct WriterHandle {
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl WriterHandle {
    pub(super) fn append(&self, batch: PreparedBatch) -> Result<Receipt, AppendError> {
        self.call(|reply| Request::Append(Box::new(batch), reply))
    }

    pub(super) fn settle(&self) -> Result<(), AppendError> {
        self.call(Request::Settle)
    }

    fn call<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, AppendError> {
        let stopped = || AppendError::Poisoned { detail: "the writer thread has stopped".to_owned() };
        let (reply, answer) = channel();
        let requests = self.requests.as_ref().ok_or_else(stopped)?;
        requests.send(request(reply)).map_err(|_| stopped())?;
        answer.recv().map_err(|_| stopped())?
    }
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        // Closing the queue lets the thread settle and end.
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// State that only the writer thread has.
pub(super) struct Writer {
    pub(super) db: Arc<DB>,
    pub(super) origin: String,
    pub(super) log_key: SigningKey,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) lock: Arc<LockFile>,
    pub(super) lock_state: LockState,
    /// What readers may see.
    pub(super) head: Arc<RwLock<Head>>,
    pub(super) frontier: Frontier,
    /// Link to the last entry.
    pub(super) prev: Link,
    pub(super) last_ts_ns: u64,
    pub(super) last_checkpoint_size: u64,
    pub(super) last_checkpoint_ns: u64,
    pub(super) poisoned: Option<String>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("origin", &self.origin)
            .field("size", &self.frontier.size())
            .finish_non_exhaustive()
    }
}

impl Writer {
    /// Starts the thread.
    pub(super) fn spawn(self) -> Result<WriterHandle, LedgerError> {
        let (requests, queue) = sync_channel(QUEUE_REQUESTS_MAX);
        let flusher = LockFlusher::spawn(Arc::clone(&self.lock))?;
        let thread = std::thread::Builder::new()
            .name("ledger-writer".to_owned())
            .spawn(move || self.run(&queue, &flusher))
            .map_err(|source| LedgerError::Io { path: "ledger-writer thread".into(), source })?;
        Ok(WriterHandle { requests: Some(requests), thread: Some(thread) })
    }

    fn run(mut self, queue: &Receiver<Request>, flusher: &LockFlusher) {
        loop {
            match queue.recv_timeout(IDLE) {
                Ok(first) => {
                    self.serve(first, queue, flusher);
                    // A ledger that is never idle is signed too.
                    if self.checkpoint_due() {
                        self.report(Self::settle);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.idle(),
                Err(RecvTimeoutError::Disconnected) => {
                    // The last caller is gone; what is not settled now is settled at the next open.
                    if let Err(error) = self.settle() {
                        tracing::error!(%error, "the ledger was closed without a final checkpoint");
                    }
                    return;
                }
            }
        }
    }

    fn serve(&mut self, first: Request, queue: &Receiver<Request>, flusher: &LockFlusher) {
        let mut group = Vec::new();
        let mut settles = Vec::new();
        let (mut bytes, mut records) = (0, 0);
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Append(batch, reply) => {
                    bytes += batch.bytes;
                    records += batch.records.len();
                    group.push((batch, reply));
                }
                Request::Settle(reply) => settles.push(reply),
            }
            let full = bytes >= GROUP_BYTES_MAX || records >= GROUP_RECORDS_MAX;
            next = if full { None } else { queue.try_recv().ok() };
        }
        if !group.is_empty() {
            self.commit(group, flusher);
        }
        for reply in settles {
            let _ = reply.send(self.settle());
        }
    }

    fn idle(&mut self) {
        if self.checkpoint_due() {
            self.report(Self::settle);
        } else if self.poisoned.is_none() && self.lock_state.acked < self.frontier.size() {
            self.report(Self::level_lock);
        }
    }

    /// Tells whether there is something to sign and the last checkpoint is old enough. A clock that was set back
    /// must not stop the checkpoints until it has caught up.
    fn checkpoint_due(&self) -> bool {
        self.poisoned.is_none()
            && self.frontier.size() > self.last_checkpoint_size
            && self.clock.now_ns().abs_diff(self.last_checkpoint_ns) >= CHECKPOINT_INTERVAL_NS
    }

    /// Does what nobody waits for; a failure is in the log and poisons the writer.
    fn report(&mut self, step: fn(&mut Self) -> Result<(), AppendError>) {
        if let Err(error) = step(self) {
            tracing::error!(%error, "the ledger could not be settled");
        }
    }

    fn commit(&mut self, group: Vec<(Box<PreparedBatch>, Reply<Receipt>)>, flusher: &LockFlusher) {
        let (batches, replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        match self.write(&batches, flusher) {
            Ok(receipts) => {
                for (reply, receipt) in replies.into_iter().zip(receipts) {
                    let _ = reply.send(Ok(receipt));
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Writes a group and makes it durable; on success readers see it.
    fn write(
        &mut self,
        batches: &[Box<PreparedBatch>],
        flusher: &LockFlusher,
    ) -> Result<Vec<Receipt>, AppendError> {
        self.check_poisoned()?;
        let mut group = Group::new(self);
        let db = Arc::clone(&self.db);
        let mut receipts = match group.build(&db, batches) {
            Ok(receipts) => receipts,
            // Nothing was written yet, but the database cannot be read: do not go on.
            Err(error) => return Err(self.poison(&error.to_string(), false)),
        };
        let Group { batch, frontier, prev, last_ts_ns, subjects, .. } = group;
        let root = frontier.root();

        if !batch.is_empty() {
            let mut lock_state = self.lock_state.clone();
            lock_state.counter += 1;
            lock_state.acked = self.frontier.size();
            lock_state.root = self.frontier.root().to_string();
            lock_state.in_flight = frontier.size();
            flusher.start(lock_state.clone());
            let mut durable = WriteOptions::default();
            durable.set_sync(true);
            let written = db.write_opt(batch, &durable);
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
        self.frontier = frontier;
        self.prev = prev;
        self.last_ts_ns = last_ts_ns;
        let size = self.frontier.size();
        self.publish(Head { size, root });
        for receipt in &mut receipts {
            receipt.size = size;
        }
        Ok(receipts)
    }

    /// Signs a checkpoint over the acknowledged head, if the last one is older, and brings the lock level.
    fn settle(&mut self) -> Result<(), AppendError> {
        self.check_poisoned()?;
        let size = self.frontier.size();
        if size > self.last_checkpoint_size {
            let root = self.frontier.root();
            let checkpoint = Checkpoint { origin: self.origin.clone(), size, root };
            let note = match checkpoint.sign(&self.log_key) {
                Ok(note) => note,
                Err(error) => return Err(AppendError::Storage { detail: error.to_string(), full: false }),
            };
            // The lock goes first: a checkpoint that anybody can read is one that the lock knows.
            self.lock_state.checkpoint = Some(note.clone());
            self.level_lock()?;
            let db = Arc::clone(&self.db);
            let stored =
                family(&db, CHECKPOINTS).map_err(|error| error.to_string()).and_then(|checkpoints| {
                    let mut durable = WriteOptions::default();
                    durable.set_sync(true);
                    db.put_cf_opt(checkpoints, size.to_be_bytes(), note, &durable)
                        .map_err(|error| error.to_string())
                });
            if let Err(detail) = stored {
                return Err(self.poison(&detail, is_full(&detail)));
            }
            self.last_checkpoint_size = size;
            self.last_checkpoint_ns = self.clock.now_ns();
        } else if self.lock_state.acked < size {
            self.level_lock()?;
        }
        Ok(())
    }

    fn level_lock(&mut self) -> Result<(), AppendError> {
        let mut state = self.lock_state.clone();
        state.counter += 1;
        state.acked = self.frontier.size();
        state.root = self.frontier.root().to_string();
        state.in_flight = state.acked;
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

/// One group commit while it is being built; the writer's own state changes only when it is durable.
struct Group<'a> {
    origin: &'a str,
    sealer: &'a Sealer,
    now_ns: u64,
    batch: WriteBatch,
    frontier: Frontier,
    prev: Link,
    last_ts_ns: u64,
    /// Statements of this group, and of every id that it met and that was there: (id, content) → position.
    ids: BTreeMap<([u8; 16], [u8; 16]), u64>,
    /// Ids whose statements in the database are in `ids`. An id is looked up once a group: a source that gives one
    /// id to everything must not make every append read all that it sent before.
    looked_up: BTreeSet<[u8; 16]>,
    traces: BTreeSet<[u8; 16]>,
    subjects: Vec<[u8; 16]>,
}

impl<'a> Group<'a> {
    fn new(writer: &'a Writer) -> Self {
        Self {
            origin: &writer.origin,
            sealer: &writer.sealer,
            now_ns: writer.clock.now_ns(),
            batch: WriteBatch::default(),
            frontier: writer.frontier.clone(),
            prev: writer.prev,
            last_ts_ns: writer.last_ts_ns,
            ids: BTreeMap::new(),
            looked_up: BTreeSet::new(),
            traces: BTreeSet::new(),
            subjects: Vec::new(),
        }
    }

    fn build(&mut self, db: &DB, batches: &[Box<PreparedBatch>]) -> Result<Vec<Receipt>, LedgerError> {
        let families = Families::of(db)?;
        let mut receipts = Vec::with_capacity(batches.len());
        for batch in batches {
            let mut receipt = Receipt::default();
            for record in &batch.records {
                self.place(db, families, record, &mut receipt)?;
            }
            if receipt.appended > 0 {
                for (digest, packed) in &batch.blobs {
                    self.batch.put_cf(families.blobs, digest.0, packed);
                }
            }
            receipts.push(receipt);
        }
        self.subjects.sort_unstable();
        self.subjects.dedup();
        for (subject, row) in self.sealer.unwritten(self.subjects.iter().copied()) {
            self.batch.put_cf(families.data_keys, subject, row);
        }
        Ok(receipts)
    }

    /// Gives a record its position, unless the same statement is there already.
    fn place(
        &mut self,
        db: &DB,
        families: Families<'_>,
        record: &Prepared,
        receipt: &mut Receipt,
    ) -> Result<(), LedgerError> {
        let (same, known) = self.find(db, families, record)?;
        if let Some(seq) = same {
            receipt.duplicates += 1;
            receipt.seqs.push(seq);
            return Ok(());
        }
        if known {
            receipt.conflicts += 1;
        }
        let seq = self.append(db, families, record);
        receipt.appended += 1;
        receipt.seqs.push(seq?);
        Ok(())
    }

    /// Finds an entry with the same id and content; also tells whether the id is there at all.
    fn find(
        &mut self,
        db: &DB,
        families: Families<'_>,
        record: &Prepared,
    ) -> Result<(Option<u64>, bool), LedgerError> {
        if self.looked_up.insert(record.id) {
            for row in db.prefix_iterator_cf(families.by_id, record.id) {
                let (key, value) = row?;
                if !key.starts_with(&record.id) {
                    break;
                }
                let row: IdRow = codec::decode(families::BY_ID, &value)?;
                let seq = families::seq_of_key(&key).ok_or_else(|| LedgerError::Damaged {
                    place: format!("row of `{}`", families::BY_ID),
                    detail: "its key holds no position".to_owned(),
                })?;
                self.ids.entry((record.id, row.content)).or_insert(seq);
            }
        }
        let same = self.ids.get(&(record.id, record.content)).copied();
        let known = self.ids.range((record.id, [0; 16])..=(record.id, [255; 16])).next().is_some();
        Ok((same, known))
    }

    fn append(&mut self, db: &DB, families: Families<'_>, record: &Prepared) -> Result<u64, LedgerError> {
        let seq = self.frontier.size();
        // The receiver's clock never runs backwards in the log, whatever the system's clock does.
        self.last_ts_ns = self.last_ts_ns.max(self.now_ns);
        let parts = EntryParts {
            seq,
            ts_ns: self.last_ts_ns,
            kind: &record.kind,
            prev: self.prev,
            origin: self.origin,
            stream: record.stream.as_ref(),
            body: &record.body,
        };
        let entry = parts.to_bytes();
        self.prev = Link::of_entry(&entry);
        let batch = &mut self.batch;
        batch.put_cf(families.entries, seq.to_be_bytes(), &entry);
        self.frontier.push(merkle::leaf_hash(&entry), |level, index, hash| {
            if level.is_multiple_of(TILE_LEVELS) {
                batch.put_cf(families.tiles, families::tile_key(level, index), hash.0);
            }
        });
        for disclosure in &record.disclosures {
            let key = families::disclosure_key(seq, &disclosure.digest);
            batch.put_cf(families.disclosures, key, &disclosure.row);
        }
        self.subjects.extend(record.subject);

        batch.put_cf(
            families.by_id,
            families::digest_key(&record.id, seq),
            codec::encode(&IdRow { content: record.content }),
        );
        self.ids.insert((record.id, record.content), seq);
        families::put_mark(batch, families.by_kind, families::text_key(&record.kind, seq));
        if let Some(trace) = record.trace {
            families::put_mark(batch, families.by_trace, families::digest_key(&trace.0, seq));
            if self.traces.insert(trace.0) && !has_prefix(db, families, &trace.0)? {
                batch.put_cf(families.trace_starts, seq.to_be_bytes(), trace.0);
            }
        }
        let texts = [
            (families.by_agent, &record.agent),
            (families.by_tool, &record.tool),
            (families.by_effect, &record.effect),
        ];
        for (family, text) in texts {
            if let Some(text) = text {
                families::put_mark(batch, family, families::text_key(text, seq));
            }
        }
        Ok(seq)
    }
}

fn has_prefix(db: &DB, families: Families<'_>, trace: &[u8; 16]) -> Result<bool, LedgerError> {
    match db.prefix_iterator_cf(families.by_trace, trace).next() {
        Some(row) => Ok(row?.0.starts_with(trace)),
        None => Ok(false),
    }
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
        let _ = self.states.as_ref().map(|states| states.send(state));
    }

    fn finish(&self) -> io::Result<()> {
        self.results.recv().unwrap_or_else(|_| Err(io::Error::other("the lock thread has stopped")))
    }
}
