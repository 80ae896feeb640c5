//! `verdict export log`: the whole log as static files.

use std::io::Write as _;
use std::path::PathBuf;

use serde_json::json;
use verdict_ledger::Ledger;
use verdict_ledger::note::{Checkpoint, SignedNote};
use verdict_ledger::tile::Tile;

use super::mirror::Mirror;
use crate::cli::Context;
use crate::cmd::entries;
use crate::exit::{CliError, Exit, Kind, chain};
use crate::progress::Progress;

/// The disclosed values of the log, beside the tiles.
const DISCLOSURES: &str = "disclosures.jsonl";

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// Directory to write: a new one, or an earlier export, which is brought up to date.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Write the personal and large values too, into disclosures.jsonl; entries hold only their digests.
    #[arg(long)]
    disclosures: bool,
}

/// Writes every tile that the newest checkpoint needs, then the checkpoint.
pub(super) fn run(args: &LogArgs, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = context.reader()?;
    let untrusted = |error: &dyn std::error::Error| CliError::new(Kind::Untrusted, chain(error));
    let note = ledger.checkpoint()?.ok_or_else(|| {
        CliError::unusable("the ledger has no checkpoint, so nothing in it can be verified yet")
            .hint("a checkpoint is signed by whatever writes the ledger, `verdict ingest` or `verdict serve`")
    })?;
    let checkpoint = ledger.verify_checkpoint(&note).map_err(|error| {
        untrusted(&error).hint("the ledger's own checkpoint does not verify; run `verdict verify`")
    })?;
    let mut mirror = Mirror::open(&args.out)?;
    let old = match mirror.checkpoint()? {
        Some(old) => resumed(&old, &checkpoint, &ledger).map_err(|error| error.at(args.out.display()))?,
        None => 0,
    };
    let progress = Progress::start(context.output, "export");
    let tiles = Tile::between(old, checkpoint.size).count() as u64;
    for (done, tile) in (0u64..).zip(Tile::between(old, checkpoint.size)) {
        progress.at(done, tiles);
        mirror.put(&tile.to_string(), ledger.tile_bytes(&tile)?)?;
    }
    if args.disclosures {
        mirror.put_all(DISCLOSURES, (0..checkpoint.size).map(|seq| disclosures(&ledger, seq)))?;
    }
    drop(progress);
    let full = Tile::between(old, checkpoint.size).filter(|tile| !tile.is_partial());
    let replaced: Vec<Tile> = if old == 0 { Vec::new() } else { full.collect() };
    let mirror_dir = args.out.display();
    let (files, bytes) = mirror.finish(&note, &replaced)?;
    let newer = ledger.head().size.saturating_sub(checkpoint.size);
    if json {
        context.output.json(&json!({
            "out": mirror_dir.to_string(), "origin": checkpoint.origin, "size": checkpoint.size,
            "root": hex::encode(checkpoint.root.0), "had": old, "files": files, "bytes": bytes,
            "not_covered": newer,
        }))?;
    } else {
        context.output.result(&format!(
            "wrote {mirror_dir}\n  {} of {}, {files} files written\n  root {}\n",
            entries(checkpoint.size),
            checkpoint.origin,
            hex::encode(checkpoint.root.0),
        ))?;
        if newer > 0 {
            context.output.note(&format!(
                "{} newer than the newest checkpoint and not in the export; run it again later",
                if newer == 1 { "1 entry is".to_owned() } else { format!("{newer} entries are") },
            ));
        }
    }
    Ok(Exit::Clean)
}

/// Returns how many entries an earlier export holds. It must be one of this log: a log only grows.
fn resumed(old: &str, new: &Checkpoint, ledger: &Ledger) -> Result<u64, CliError> {
    let old = SignedNote::parse(old).and_then(|note| Checkpoint::from_text(&note.text)).map_err(|error| {
        CliError::unusable(format!("the `checkpoint` in it cannot be read: {error}"))
            .hint("remove it to write every file anew, or name another directory")
    })?;
    if old.origin != new.origin {
        return Err(CliError::unusable(format!(
            "it holds log `{}`, this ledger is `{}`",
            old.origin, new.origin
        ))
        .hint("name another directory with --out"));
    }
    if old.size > new.size {
        return Err(CliError::new(
            Kind::Untrusted,
            format!("it holds {} and the ledger has a checkpoint of {} only", entries(old.size), new.size),
        )
        .hint(
            "the ledger may have been rolled back: compare it with a backup before anything is added to it",
        ));
    }
    if ledger.root_at(old.size)? != old.root {
        return Err(CliError::new(
            Kind::Untrusted,
            format!("its checkpoint of {} has another root than the ledger had", entries(old.size)),
        )
        .hint("one of the two is a fork or was changed: keep both, and run `verdict verify`"));
    }
    Ok(old.size)
}

/// Lists the disclosed values of an entry that are still there, in the form of an evidence bundle.
fn disclosures(ledger: &Ledger, seq: u64) -> Result<Vec<u8>, CliError> {
    let mut lines = Vec::new();
    for disclosure in ledger.disclosures(seq)? {
        // Writing into memory does not fail.
        let _ = writeln!(lines, "{}", json!({"seq": seq.to_string(), "d": disclosure}));
    }
    Ok(lines)
}
