//! `verdict export`.

mod log;
mod mirror;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;
use verdict_diff::render::text::counted;
use verdict_exporters::evidence::{self, ExportOptions, Withhold};
use verdict_ledger::disclosure;
use verdict_ledger::event::Source;
use verdict_ledger::note::VerifierKey;
use verdict_ledger::{Batch, Ledger, Record, Rows};

use super::{entries, files};
use crate::cli::{Attribution, Context, Selection};
use crate::exit::{CliError, Exit, Kind, chain};

/// Bytes that are gathered before they are written to stdout.
const CHUNK_BYTES: usize = 1 << 20;

/// Commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Write a signed evidence bundle that verifies without the ledger
    #[command(after_help = "\
Examples:
  verdict export evidence --trace 4bf92f3577b34da6a3ce929d0e0e4736 --out evidence.zip
  verdict export evidence --range 0..5000 --out month.zip --withhold /user --withhold /action/arguments
  verdict keys show > auditor.keys      to be handed over by another way than the bundle

The export itself becomes an entry of the ledger.")]
    Evidence(EvidenceArgs),
    /// Write events, one JSON object a line, as `verdict ingest` takes them
    #[command(after_help = "\
Examples:
  verdict export events > events.ndjson
  verdict export events --range 100..200 --entries      the exact bytes that are hashed, one entry a line")]
    Events(EventArgs),
    /// Write the whole log as static files that other people's tools verify and mirror
    #[command(after_help = "\
Examples:
  verdict export log --out /srv/log           tile/... and checkpoint (c2sp.org/tlog-tiles)
  verdict export log --out /srv/log           again: only what is new since
  python3 reader.py /srv/log auditor.keys     ledger/docs/reader.py verifies it, in 100 lines

Works while the ledger is served. The files hold what `verdict serve` answers at the same addresses.")]
    Log(log::LogArgs),
}

/// Arguments of `evidence`.
#[derive(Debug, clap::Args)]
pub(crate) struct EvidenceArgs {
    #[command(flatten)]
    selection: Selection,
    /// File to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Leave out a personal or large member, by JSON pointer; `all` leaves out every one. The bundle says so.
    #[arg(long, value_name = "POINTER|all")]
    withhold: Vec<String>,
    #[command(flatten)]
    attribution: Attribution,
}

/// Arguments of `events`.
#[derive(Debug, clap::Args)]
pub(crate) struct EventArgs {
    #[command(flatten)]
    selection: Selection,
    /// Exact entries, of every type and without disclosed members, instead of events.
    #[arg(long)]
    entries: bool,
    /// Write here instead of to stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs an export command.
pub(crate) fn run(command: Command, context: &Context) -> Result<Exit, CliError> {
    match command {
        Command::Evidence(args) => export_evidence(args, context),
        Command::Events(args) => export_events(&args, context),
        Command::Log(args) => log::run(&args, context),
    }
}

fn export_evidence(args: EvidenceArgs, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    if args.selection.trace.is_some() == args.selection.range.is_some() {
        return Err(CliError::unusable("name what to export: either --trace ID or --range A..B")
            .hint("--range .. takes everything and proves that nothing was left out"));
    }
    let withhold = withhold(args.withhold)?;
    let ledger = context.writer(
        "an export is an entry of the ledger itself: stop `verdict serve` (agents send again what it did not acknowledge), export, start it again",
    )?;
    // The newest checkpoint is to cover everything that is there.
    ledger.settle()?;
    let selection = match (args.selection.trace, args.selection.range) {
        (Some(trace), _) => evidence::Selection::Trace(trace),
        (None, range) => evidence::Selection::Range(range.unwrap_or_default().within(ledger.head().size)?),
    };
    let key_text = ledger.bundle_verifier_key();
    let key = VerifierKey::parse(&key_text)
        .map_err(|error| CliError::new(Kind::Untrusted, chain(&error)).at("bundle key"))?;
    let options = ExportOptions {
        signer: &*ledger.bundle_signer()?,
        signer_name: key.name(),
        tool_version: env!("CARGO_PKG_VERSION"),
        withhold,
        checkpoint: None,
    };
    let built = evidence::export(&ledger, &selection, &options)?;
    files::write(&args.out, &built.bytes)?;
    record(&ledger, &built, &args.attribution)?;
    let counts = &built.predicate.counts;
    if json {
        context.output.json(&json!({
            "out": args.out.display().to_string(), "sha256": built.digest.to_hex(), "bytes": built.bytes.len(),
            "entries": counts.entries, "disclosures": counts.disclosures, "redactions": counts.redactions,
            "bundle_key": built.bundle_key, "log_key": built.log_key,
        }))?;
    } else {
        context.output.result(&format!(
            "wrote {}\n  {}, {}, {} withheld or erased\n  sha256 {}\n",
            args.out.display(),
            entries(counts.entries),
            counted(counts.disclosures, "disclosed value"),
            counts.redactions,
            built.digest.to_hex()
        ))?;
        context.output.note(&format!(
            "check it with `verdict verify {} --key KEYS`; `verdict keys show` prints the keys",
            args.out.display()
        ));
    }
    Ok(Exit::Clean)
}

/// Every export is an event. The file is there already, so that the entry never speaks of one that is not.
fn record(ledger: &Ledger, built: &evidence::Built, attribution: &Attribution) -> Result<(), CliError> {
    let mut event = evidence::export_event(built, &attribution.by);
    if !attribution.reason.is_empty() {
        event.body.insert("reason".to_owned(), attribution.reason.clone().into());
    }
    ledger.append(Batch { records: vec![event], blobs: Vec::new() })?;
    ledger.settle()?;
    Ok(())
}

fn withhold(members: Vec<String>) -> Result<Withhold, CliError> {
    if members.is_empty() {
        return Ok(Withhold::Nothing);
    }
    if members.iter().any(|member| member == "all") {
        return Ok(Withhold::Everything);
    }
    // Anything else stands in the entry itself, in the clear: leaving it out would break the proof, and going on
    // would disclose what somebody asked to hold back.
    let possible: Vec<String> = disclosure::pointers().collect();
    if let Some(bad) = members.iter().find(|member| !possible.contains(member)) {
        return Err(CliError::unusable(format!(
            "--withhold `{bad}`: there is no such member that can be left out"
        ))
        .hint(format!("what can be left out is `all`, or {}", possible.join(", "))));
    }
    Ok(Withhold::Members(members.into_iter().collect::<BTreeSet<_>>()))
}

fn export_events(args: &EventArgs, context: &Context) -> Result<Exit, CliError> {
    let ledger = context.reader()?;
    let size = ledger.head().size;
    let range = args.selection.range.unwrap_or_default().within(size)?;
    // Of one trace only what the index names is read.
    let of_trace: Option<Vec<u64>> = match &args.selection.trace {
        Some(trace) => {
            let seqs = ledger.trace_seqs(trace)?;
            if seqs.is_empty() {
                return Err(CliError::unusable(format!("the ledger has no event of trace {trace}"))
                    .hint("`verdict trace list` shows the traces that are there"));
            }
            Some(seqs.into_iter().filter(|seq| range.contains(seq)).collect())
        }
        None => None,
    };
    let mut sink = Sink { out: args.out.as_deref(), held: Vec::new(), context };
    let mut other = 0u64;
    if args.entries {
        let entries: Rows<'_, Vec<u8>> = match of_trace {
            Some(seqs) => Box::new(seqs.into_iter().filter_map(|seq| ledger.entry(seq).transpose())),
            None => Box::new(ledger.entries(range).map(|row| row.map(|(_, bytes)| bytes))),
        };
        for entry in entries {
            sink.line(&entry?)?;
        }
    } else {
        let records: Rows<'_, Record> = match of_trace {
            Some(seqs) => Box::new(seqs.into_iter().filter_map(|seq| ledger.record(seq).transpose())),
            None => ledger.records(range),
        };
        for record in records {
            let record = record?;
            match &record.event {
                Some(event) => {
                    // What the receiver wrote about the sender belongs to this ledger; the next one writes its own.
                    let mut event = event.clone();
                    event.source = Source { lost: event.source.lost, ..Source::default() };
                    let line = serde_json::to_vec(&event).map_err(|error| {
                        CliError::new(Kind::Untrusted, format!("entry {}: {error}", record.seq))
                    })?;
                    sink.line(&line)?;
                }
                None => other += 1,
            }
        }
    }
    sink.finish()?;
    if other > 0 {
        let what = if other == 1 {
            "1 entry is no event and was"
        } else {
            &format!("{other} entries are no events and were")
        };
        context.output.note(&format!("{what} left out; --entries writes every entry"));
    }
    Ok(Exit::Clean)
}

/// Writes lines to stdout in pieces, or to a file as a whole.
struct Sink<'a> {
    out: Option<&'a Path>,
    held: Vec<u8>,
    context: &'a Context,
}

impl Sink<'_> {
    fn line(&mut self, line: &[u8]) -> Result<(), CliError> {
        self.held.extend_from_slice(line);
        self.held.push(b'\n');
        if self.out.is_none() && self.held.len() >= CHUNK_BYTES {
            self.context.output.bytes(&self.held)?;
            self.held.clear();
        }
        Ok(())
    }

    fn finish(self) -> Result<(), CliError> {
        match self.out {
            None => self.context.output.bytes(&self.held),
            Some(path) => files::write(path, &self.held),
        }
    }
}
