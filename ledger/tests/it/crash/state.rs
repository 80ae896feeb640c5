//! What a power cut at one moment may leave of a [`Disk`].
//!
//! What is durable is there. Of everything else that was begun each part may be there or not, in any combination that
//! the [`Cut`] chooses: whole changes to directories, single sectors of writes, lengths without content.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::disk::{Change, DirChange, Disk, FileChange, Inode, InodeId, Moment};
use super::random::Random;

/// How the cut chooses among what is not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// All of it: the process died, the machine did not.
    AllApplied,
    /// None of it.
    OnlySynced,
    /// Directories as a journal keeps them: everything up to a point. Files: everything up to a point in the last write.
    Prefix { seed: u64 },
    /// Each change to a directory by itself; each sector of each write by itself. `garbage`: a sector that was being
    /// written may hold anything.
    Torn { seed: u64, sector: u64, garbage: bool },
}

/// A disk as it is found: every file with its content, every directory that holds none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) files: BTreeMap<PathBuf, Vec<u8>>,
    pub(super) dirs: Vec<PathBuf>,
}

impl State {
    pub(super) fn of(disk: &Disk, moment: Moment, cut: Cut) -> Self {
        let mut state = Self::default();
        let mut random = match cut {
            Cut::AllApplied | Cut::OnlySynced => Random::seeded(0),
            Cut::Prefix { seed } | Cut::Torn { seed, .. } => Random::of(&[seed, moment as u64]),
        };
        state.walk(disk, moment, cut, &mut random, 0, &PathBuf::new());
        state
    }

    fn walk(
        &mut self,
        disk: &Disk,
        moment: Moment,
        cut: Cut,
        random: &mut Random,
        inode: InodeId,
        path: &Path,
    ) {
        match &disk.inodes[inode] {
            Inode::File(changes) => {
                self.files.insert(path.to_owned(), content(changes, moment, cut, random));
            }
            Inode::Dir(changes) => {
                self.dirs.push(path.to_owned());
                for (name, inode) in entries(disk, changes, moment, cut, random) {
                    self.walk(disk, moment, cut, random, inode, &path.join(name));
                }
            }
        }
    }

    /// Writes it into a directory.
    pub(super) fn write_to(&self, root: &Path) {
        for dir in &self.dirs {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        for (path, bytes) in &self.files {
            // A file has its mode from the moment on in which it has a name.
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(root.join(path)).unwrap();
            file.write_all(bytes).unwrap();
        }
    }

    /// Tells states apart.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for (path, bytes) in &self.files {
            let path = path.as_os_str().as_encoded_bytes();
            for part in [path, bytes] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        *hasher.finalize().as_bytes()
    }
}

/// The changes that were begun before the moment, each with whether it is durable.
fn begun<T>(changes: &[Change<T>], moment: Moment) -> Vec<(bool, &T)> {
    let begun = changes.iter().filter(|change| change.began < moment);
    begun.map(|change| (change.durable < moment, &change.what)).collect()
}

fn entries(
    disk: &Disk,
    changes: &[Change<DirChange>],
    moment: Moment,
    cut: Cut,
    random: &mut Random,
) -> BTreeMap<String, InodeId> {
    let changes = begun(changes, moment);
    let mut names = BTreeMap::new();
    for (applied, change) in applied(disk, &changes, moment, cut, random).into_iter().zip(changes) {
        if !applied {
            continue;
        }
        match change.1 {
            DirChange::Add { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            DirChange::Remove { name } => {
                names.remove(name);
            }
            DirChange::Rename { from, to, inode } => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
        }
    }
    names
}

/// Which changes to a directory are there.
fn applied(
    disk: &Disk,
    changes: &[(bool, &DirChange)],
    moment: Moment,
    cut: Cut,
    random: &mut Random,
) -> Vec<bool> {
    let open = changes.iter().filter(|(durable, _)| !durable).count();
    let mut kept = random.index(open + 1);
    let choose = |(durable, _): &(bool, &DirChange)| {
        *durable
            || match cut {
                Cut::AllApplied => true,
                Cut::OnlySynced => false,
                Cut::Prefix { .. } => {
                    let applied = kept > 0;
                    kept = kept.saturating_sub(1);
                    applied
                }
                Cut::Torn { .. } => random.percent(50),
            }
    };
    let mut applied: Vec<bool> = changes.iter().map(choose).collect();
    // RocksDB makes a manifest, flushes it, renames CURRENT to name it, and flushes the directory once. It relies on
    // this: a name that was given to a file which was flushed since is not lost while a later change to the same
    // directory is kept. Whether both are lost is open.
    let mut later = false;
    for (index, (durable, change)) in changes.iter().enumerate().rev() {
        if let (true, DirChange::Add { inode, .. }) = (later, change) {
            applied[index] |= was_flushed(disk, *inode, moment);
        }
        later |= applied[index] && !durable;
    }
    applied
}

fn was_flushed(disk: &Disk, inode: InodeId, moment: Moment) -> bool {
    match &disk.inodes[inode] {
        Inode::File(changes) => changes.iter().any(|change| change.durable < moment),
        Inode::Dir(_) => false,
    }
}

fn content(changes: &[Change<FileChange>], moment: Moment, cut: Cut, random: &mut Random) -> Vec<u8> {
    let changes = begun(changes, moment);
    let open = changes.iter().filter(|(durable, _)| !durable).count();
    let mut kept = random.index(open + 1);
    // How much of a torn write is there differs from state to state, so that rare combinations come up.
    let chance = [5, 50, 95][random.index(3)];
    let mut bytes = Vec::new();
    for (durable, change) in changes {
        if durable || cut == Cut::AllApplied {
            apply(&mut bytes, change);
            continue;
        }
        match cut {
            Cut::AllApplied | Cut::OnlySynced => {}
            Cut::Prefix { .. } => {
                if kept > 1 {
                    apply(&mut bytes, change);
                } else if kept == 1 {
                    apply_prefix(&mut bytes, change, random);
                }
                kept = kept.saturating_sub(1);
            }
            Cut::Torn { sector, garbage, .. } => match change {
                FileChange::Write { offset, bytes: data } => {
                    tear(&mut bytes, *offset, data, sector, garbage, chance, random);
                }
                length => {
                    if random.percent(50) {
                        apply(&mut bytes, length);
                    }
                }
            },
        }
    }
    bytes
}

fn apply(bytes: &mut Vec<u8>, change: &FileChange) {
    match change {
        FileChange::Write { offset, bytes: data } => put(bytes, *offset, data),
        FileChange::Length(length) => bytes.resize(usize::try_from(*length).unwrap(), 0),
        FileChange::AtLeast(length) => {
            let length = usize::try_from(*length).unwrap().max(bytes.len());
            bytes.resize(length, 0);
        }
    }
}

fn apply_prefix(bytes: &mut Vec<u8>, change: &FileChange, random: &mut Random) {
    match change {
        FileChange::Write { offset, bytes: data } => {
            put(bytes, *offset, &data[..random.index(data.len() + 1)]);
        }
        length => apply(bytes, length),
    }
}

/// Keeps some sectors of a write. One that is not kept is as it was before: old content, zeros where the file became
/// longer, or nothing.
fn tear(
    bytes: &mut Vec<u8>,
    offset: u64,
    data: &[u8],
    sector: u64,
    garbage: bool,
    chance: u64,
    random: &mut Random,
) {
    if random.percent(30) {
        // The length came to the disk, whatever the content did.
        let length = usize::try_from(offset).unwrap() + data.len();
        bytes.resize(bytes.len().max(length), 0);
    }
    let mut at = 0;
    while at < data.len() {
        let position = offset + at as u64;
        let until_next = usize::try_from(sector - position % sector).unwrap();
        let end = data.len().min(at + until_next);
        if random.percent(chance) {
            put(bytes, position, &data[at..end]);
        } else if garbage && random.percent(20) {
            put(bytes, position, &random.bytes(end - at));
        }
        at = end;
    }
}

fn put(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let offset = usize::try_from(offset).unwrap();
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crash::trace;

    fn string(text: &str) -> String {
        text.bytes().flat_map(|byte| ["\\x".to_owned(), hex::encode([byte])]).collect()
    }

    fn disk(lines: &[String]) -> Disk {
        let steps = trace::parse(&(lines.join("\n") + "\n")).unwrap();
        Disk::replay(&steps, Path::new("/d"), &["data"], Path::new("/said")).unwrap()
    }

    fn open(path: &str, fd: u32, flags: &str) -> String {
        format!("1 openat(AT_FDCWD, \"{}\", {flags}) = {fd}", string(path))
    }

    fn write(fd: u32, text: &str) -> String {
        format!("1 write({fd}, \"{}\", {}) = {}", string(text), text.len(), text.len())
    }

    fn last(disk: &Disk, cut: Cut, path: &str) -> Option<Vec<u8>> {
        State::of(disk, disk.end, cut).files.get(Path::new(path)).cloned()
    }

    #[test]
    fn a_file_is_not_there_before_its_directory_is_flushed() {
        let mut lines = vec![
            open("/d/data/f", 3, "O_WRONLY|O_CREAT|O_TRUNC, 0644"),
            write(3, "one"),
            "1 fsync(3) = 0".to_owned(),
        ];
        assert_eq!(last(&disk(&lines), Cut::OnlySynced, "data/f"), None, "flushed, and no name leads to it");
        assert_eq!(last(&disk(&lines), Cut::AllApplied, "data/f").unwrap(), b"one");
        lines.push(open("/d/data", 4, "O_RDONLY|O_DIRECTORY"));
        lines.push("1 fsync(4) = 0".to_owned());
        assert_eq!(last(&disk(&lines), Cut::OnlySynced, "data/f").unwrap(), b"one");
        lines.push(write(3, "two"));
        assert_eq!(last(&disk(&lines), Cut::OnlySynced, "data/f").unwrap(), b"one");
        assert_eq!(last(&disk(&lines), Cut::AllApplied, "data/f").unwrap(), b"onetwo");
    }

    #[test]
    fn a_flush_covers_what_was_written_before_it_began_and_holds_once_it_returned() {
        let lines = [
            open("/d/data", 4, "O_RDONLY"),
            open("/d/data/f", 3, "O_WRONLY|O_CREAT, 0644"),
            "1 fsync(4) = 0".to_owned(),
            write(3, "a"),
            "1 fdatasync(3 <unfinished ...>".to_owned(),
            format!("2 write(3, \"{}\", 1) = 1", string("b")),
            "1 <... fdatasync resumed>) = 0".to_owned(),
        ];
        let whole = disk(&lines);
        assert_eq!(last(&whole, Cut::OnlySynced, "data/f").unwrap(), b"a", "`b` came after the flush began");
        let before = State::of(&whole, whole.end - 1, Cut::OnlySynced);
        assert_eq!(before.files.get(Path::new("data/f")).unwrap(), b"", "it has not returned");
        let failed = lines.map(|line| line.replace("resumed>) = 0", "resumed>) = -1 EIO (x)"));
        assert_eq!(last(&disk(&failed), Cut::OnlySynced, "data/f").unwrap(), b"", "it failed");
    }

    #[test]
    fn a_rename_is_one_step_and_may_be_undone() {
        let lines = [
            open("/d/data", 4, "O_RDONLY"),
            open("/d/data/new", 3, "O_WRONLY|O_CREAT, 0644"),
            write(3, "x"),
            "1 fsync(3) = 0".to_owned(),
            "1 fsync(4) = 0".to_owned(),
            format!("1 rename(\"{}\", \"{}\") = 0", string("/d/data/new"), string("/d/data/current")),
            format!("1 unlink(\"{}\") = 0", string("/d/data/current")),
        ];
        let disk = disk(&lines);
        assert_eq!(last(&disk, Cut::OnlySynced, "data/new").unwrap(), b"x");
        assert_eq!(last(&disk, Cut::AllApplied, "data/new"), None);
        assert_eq!(last(&disk, Cut::AllApplied, "data/current"), None);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let state = State::of(&disk, disk.end, Cut::Torn { seed, sector: 512, garbage: false });
            seen.insert(state.files.keys().map(|path| path.display().to_string()).collect::<Vec<_>>());
        }
        let expected = [vec![], vec!["data/current".to_owned()], vec!["data/new".to_owned()]];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected, "and never both or half");
    }

    #[test]
    fn a_torn_write_is_made_of_sectors_old_new_or_zero() {
        let (old, new) = ("o".repeat(1024), "n".repeat(1536));
        let lines = [
            open("/d/data", 4, "O_RDONLY"),
            open("/d/data/f", 3, "O_RDWR|O_CREAT, 0644"),
            write(3, &old),
            "1 fsync(3) = 0".to_owned(),
            "1 fsync(4) = 0".to_owned(),
            format!("1 pwrite64(3, \"{}\", 1536, 0) = 1536", string(&new)),
        ];
        let disk = disk(&lines);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let content = last(&disk, Cut::Torn { seed, sector: 512, garbage: false }, "data/f").unwrap();
            let kinds: String = content.chunks(512).map(|sector| char::from(sector[0])).collect();
            assert!(content.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
            seen.insert(kinds);
        }
        for state in ["oo", "no", "on", "nn", "oo\0", "oon", "nnn", "non"] {
            assert!(seen.contains(state), "{state:?} of {seen:?}");
        }
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let content = last(&disk, Cut::Prefix { seed }, "data/f").unwrap();
            let new = content.iter().take_while(|byte| **byte == b'n').count();
            assert_eq!(content[new..], old.as_bytes()[new.min(1024)..], "new, then old");
            lengths.insert(new);
        }
        assert!(lengths.len() > 10, "{lengths:?}");
    }

    #[test]
    fn what_is_not_modelled_is_refused() {
        let open = open("/d/data/f", 3, "O_RDWR|O_CREAT, 0644");
        for line in [
            "1 pwritev(3, [{iov_base=\"\\x61\", iov_len=1}], 1, 0) = 1".to_owned(),
            "1 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3, 0) = 0x7f0000000000".to_owned(),
            format!("1 link(\"{}\", \"{}\") = 0", string("/d/data/f"), string("/d/data/g")),
            "1 sync() = 0".to_owned(),
            "1 write(3, \"\\x61\"..., 100) = 100".to_owned(),
        ] {
            let steps = trace::parse(&format!("{open}\n{line}\n")).unwrap();
            let replayed = Disk::replay(&steps, Path::new("/d"), &["data"], Path::new("/said"));
            assert!(replayed.is_err(), "{line}");
        }
    }
}
