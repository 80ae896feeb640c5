//! A disk that is really full, and one that cannot be written: file systems of a mount namespace of our own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::ack::{self, Said};
use super::audit::{self, Promises};
use super::writer::{Kind, Order};
use super::{skipped, told};

/// Too small for the batches below, large enough for a new ledger.
const SMALL_MIB: u32 = 8;
const LARGE_MIB: u32 = 256;

/// Whether a process may mount things where nobody else sees it.
fn may_mount() -> bool {
    let output = Command::new("unshare").args(["-r", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    let may = output.as_ref().is_ok_and(|output| output.status.success());
    if !may {
        skipped(&format!("no mount namespaces here, no full and no read-only disk was tested: {output:?}"));
    }
    may
}

/// Runs a script in a mount namespace of its own; `$DISK` is where something can be mounted and `"$@"` the writer.
fn run(order: &Order, disk: &Path, script: &str) -> Output {
    let wrapper = ["unshare", "-r", "-m", "bash", "-euc", script, "writer"].map(Into::into);
    let output = order.command(&wrapper).env("DISK", disk).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !stderr.contains("panicked"), "{}: {stderr}", output.status);
    output
}

fn place() -> (tempfile::TempDir, PathBuf, Order) {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let order = Order::below(&disk, dir.path().join("said"), 7);
    (dir, disk, order)
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_goes_on_when_there_is_room() {
    if !may_mount() {
        return;
    }
    let (dir, disk, mut order) = place();
    (order.threads, order.batches, order.settle_every, order.stubborn) = (3, 3_000, 5, 2);
    let script = format!(
        "mount -t tmpfs -o size={SMALL_MIB}m tmpfs \"$DISK\"; mkdir \"$DISK/data\" \"$DISK/lock\"; \"$@\"; \
         mount -o remount,size={LARGE_MIB}m \"$DISK\"; cp -a \"$DISK/data\" \"$DISK/lock\" \"$DISK/..\""
    );
    run(&order, &disk, &script);
    let said = ack::read(&order.said);
    let first =
        said.iter().position(|said| matches!(said, Said::Refused { .. })).expect("the disk was large enough");
    for said in &said[first..] {
        match said {
            Said::Refused { variant, text } => {
                assert!(["Storage", "Poisoned"].contains(&variant.as_str()), "{variant}: {text}");
                assert!(text.contains("No space left on device"), "{text}");
            }
            // Another thread may have been answered before and say so after.
            Said::Acked { .. } | Said::Settled { .. } | Said::Closed => {}
            other => panic!("{other:?}"),
        }
    }
    let promises = Promises::of(&said);
    let (ledger, lock) = (dir.path().join("data/ledger"), dir.path().join("lock/ledger.lock"));
    let found = audit::check(&ledger, &lock, &promises, true).unwrap();
    told(&format!(
        "full disk of {SMALL_MIB} MiB: {} batches acknowledged, {} entries found",
        promises.acked.len(),
        found.size
    ));
    assert!(promises.acked.len() > 20, "{said:?}");
}

#[test]
fn a_disk_too_small_for_a_ledger_is_named() {
    if !may_mount() {
        return;
    }
    for pages in [1, 4, 8, 16, 32] {
        let (_dir, disk, order) = place();
        let script = format!(
            "mount -t tmpfs -o size={}k tmpfs \"$DISK\"; mkdir \"$DISK/data\" \"$DISK/lock\"; \"$@\"",
            pages * 4
        );
        run(&order, &disk, &script);
        let said = ack::read(&order.said);
        let named = matches!(
            said.last(),
            Some(Said::NotOpen { text, .. } | Said::Refused { text, .. })
                if text.contains("No space left on device") || text.contains(disk.to_str().unwrap())
        );
        let whole = said.last() == Some(&Said::Closed);
        assert!(named || whole, "{pages} pages: {said:?}");
    }
}

#[test]
fn a_read_only_disk_is_read_and_not_written() {
    if !may_mount() {
        return;
    }
    let (_dir, disk, mut order) = place();
    order.prepare();
    order.command(&[]).output().unwrap();
    let written = ack::read(&order.said);
    assert_eq!(written.last(), Some(&Said::Closed));
    let Some(Said::Acked { size, root, .. }) =
        written.iter().rfind(|said| matches!(said, Said::Acked { .. })).cloned()
    else {
        panic!("{written:?}")
    };

    let script = "mount --bind \"$DISK\" \"$DISK\"; mount -o remount,bind,ro \"$DISK\"; \"$@\"";
    order.said = disk.with_file_name("said-writer");
    run(&order, &disk, script);
    match ack::read(&order.said).as_slice() {
        [Said::NotOpen { text, .. }] => assert!(text.contains("Read-only file system"), "{text}"),
        other => panic!("{other:?}"),
    }

    (order.kind, order.said) = (Kind::Reader, disk.with_file_name("said-reader"));
    std::fs::write(order.stop_file(), "").unwrap();
    run(&order, &disk, script);
    let seen = ack::read(&order.said);
    assert!(
        !seen.is_empty() && seen.iter().all(|said| *said == Said::Seen { size, root: root.clone() }),
        "{seen:?}"
    );
}
