//! A disk that remembers what it was asked, rebuilt from a recording: for every moment it knows which changes a power
//! cut could not undo.
//!
//! A change to a file is durable once a flush of that file, begun after the change, has returned. A change to a
//! directory is durable once a flush of that directory has. Nothing else is promised, and nothing else is assumed.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::ack::{self, Said};
use super::trace::{self, CallId, Step};

/// A moment: an index into the steps of the recording.
pub(super) type Moment = usize;

/// Never.
const NEVER: Moment = Moment::MAX;

pub(super) type InodeId = usize;

/// When a change was begun, ended and made durable.
#[derive(Debug, Clone)]
pub(super) struct Change<T> {
    pub(super) began: Moment,
    pub(super) ended: Moment,
    pub(super) durable: Moment,
    pub(super) what: T,
}

#[derive(Debug, Clone)]
pub(super) enum FileChange {
    Write {
        offset: u64,
        bytes: Vec<u8>,
    },
    Length(u64),
    /// `fallocate` that extends.
    AtLeast(u64),
}

#[derive(Debug, Clone)]
pub(super) enum DirChange {
    Add {
        name: String,
        inode: InodeId,
    },
    Remove {
        name: String,
    },
    /// Both names in one step.
    Rename {
        from: String,
        to: String,
        inode: InodeId,
    },
}

#[derive(Debug)]
pub(super) enum Inode {
    File(Vec<Change<FileChange>>),
    Dir(Vec<Change<DirChange>>),
}

/// The disk; inode 0 is its root.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) inodes: Vec<Inode>,
    /// What was said, and when.
    pub(super) said: Vec<(Moment, Said)>,
    /// When a flush returned.
    pub(super) flushes: Vec<Moment>,
    /// When any call returned that changed the disk.
    pub(super) changes: Vec<Moment>,
    /// Bytes written to files of the disk.
    pub(super) written: u64,
    pub(super) end: Moment,
}

/// What a descriptor is.
#[derive(Debug, Clone, Copy)]
struct Open {
    inode: InodeId,
    description: usize,
}

/// The position that all copies of a descriptor share.
#[derive(Debug, Clone, Copy)]
struct Description {
    offset: u64,
    append: bool,
}

struct Replay<'a> {
    root: &'a Path,
    said_path: &'a Path,
    disk: Disk,
    /// The names as the running program sees them.
    names: BTreeMap<PathBuf, InodeId>,
    fds: BTreeMap<i64, Open>,
    descriptions: Vec<Description>,
    said_fd: Option<i64>,
    pending: BTreeMap<CallId, Pending>,
}

/// A call that has not returned.
struct Pending {
    began: Moment,
    name: String,
    arguments: Vec<String>,
    /// The change that was noted when it began.
    write: Option<(InodeId, usize)>,
    /// The changes that a flush covers.
    covers: Option<(InodeId, Vec<usize>)>,
}

impl Disk {
    /// Replays a recording. `root` is the directory that is the disk; `dirs` are those that were there before.
    pub(super) fn replay(
        steps: &[Step],
        root: &Path,
        dirs: &[&str],
        said_path: &Path,
    ) -> Result<Self, String> {
        let disk = Self {
            inodes: vec![Inode::Dir(Vec::new())],
            said: Vec::new(),
            flushes: Vec::new(),
            changes: Vec::new(),
            written: 0,
            end: steps.len(),
        };
        let mut replay = Replay {
            root,
            said_path,
            disk,
            names: BTreeMap::from([(PathBuf::new(), 0)]),
            fds: BTreeMap::new(),
            descriptions: Vec::new(),
            said_fd: None,
            pending: BTreeMap::new(),
        };
        for dir in dirs {
            let inode = replay.disk.inodes.len();
            replay.disk.inodes.push(Inode::Dir(Vec::new()));
            replay.names.insert(PathBuf::from(dir), inode);
            let what = DirChange::Add { name: (*dir).to_owned(), inode };
            replay.dir_changes(0)?.push(Change { began: 0, ended: 0, durable: 0, what });
        }
        for (now, step) in steps.iter().enumerate() {
            let done = match step {
                Step::Enter { id, name, arguments } => replay.enter(now, *id, name, arguments),
                Step::Exit { id, result } => replay.exit(now, *id, *result),
            };
            done.map_err(|error| format!("step {now} ({:.200}): {error}", format!("{step:?}")))?;
        }
        Ok(replay.disk)
    }
}

impl Replay<'_> {
    fn enter(&mut self, now: Moment, id: CallId, name: &str, arguments: &[String]) -> Result<(), String> {
        let mut pending = Pending {
            began: now,
            name: name.to_owned(),
            arguments: arguments.to_vec(),
            write: None,
            covers: None,
        };
        let fd = || number(arguments, 0);
        match name {
            // The number is free for others from here on.
            "close" => {
                let fd = fd()?;
                self.fds.remove(&fd);
                self.said_fd = self.said_fd.filter(|said| *said != fd);
            }
            "write" | "pwrite64" => {
                if let Some(open) = self.fds.get(&fd()?).copied() {
                    let bytes =
                        arguments.get(1).and_then(|text| trace::bytes(text)).ok_or("bytes were cut")?;
                    let offset = if name == "write" {
                        self.advance(open, bytes.len() as u64)
                    } else {
                        u64::try_from(number(arguments, 3)?).map_err(|_| "negative offset")?
                    };
                    let changes = self.file_changes(open.inode)?;
                    changes.push(Change {
                        began: now,
                        ended: NEVER,
                        durable: NEVER,
                        what: FileChange::Write { offset, bytes },
                    });
                    pending.write = Some((open.inode, changes.len() - 1));
                }
            }
            "fsync" | "fdatasync" => {
                if let Some(open) = self.fds.get(&fd()?) {
                    let before = |ended: &Moment| *ended < now;
                    let covered = match &self.disk.inodes[open.inode] {
                        Inode::File(changes) => indices(changes.iter().map(|c| c.ended), before),
                        Inode::Dir(changes) => indices(changes.iter().map(|c| c.ended), before),
                    };
                    pending.covers = Some((open.inode, covered));
                }
            }
            "writev" => {
                if Some(fd()?) == self.said_fd {
                    let line =
                        arguments.get(1).and_then(|text| trace::bytes(text)).ok_or("a line was cut")?;
                    let line = String::from_utf8(line).map_err(|error| error.to_string())?;
                    // The beginning of the call: whatever happens later, it may have been heard.
                    self.disk.said.push((now, ack::parse(line.trim_end())));
                } else if self.fds.contains_key(&fd()?) {
                    return Err("not modelled".to_owned());
                }
            }
            _ => {}
        }
        self.pending.insert(id, pending);
        Ok(())
    }

    fn exit(&mut self, now: Moment, id: CallId, result: i64) -> Result<(), String> {
        let call = self.pending.remove(&id).ok_or("it never began")?;
        let arguments = &call.arguments;
        let on_disk = |replay: &Self| number(arguments, 0).is_ok_and(|fd| replay.fds.contains_key(&fd));
        match call.name.as_str() {
            "open" | "creat" | "openat2" => self.refuse_path(arguments)?,
            "openat" => self.opened(now, &call, result)?,
            "write" | "pwrite64" => {
                let Some((inode, index)) = call.write else { return Ok(()) };
                let change = &mut self.file_changes(inode)?[index];
                change.ended = now;
                let FileChange::Write { bytes, .. } = &mut change.what else { return Err("no write".into()) };
                let written = usize::try_from(result).map_err(|_| "a write failed while it was recorded")?;
                bytes.truncate(written);
                self.disk.written += written as u64;
                self.disk.changes.push(now);
            }
            "fsync" | "fdatasync" if result == 0 => {
                let Some((inode, covered)) = call.covers else { return Ok(()) };
                match &mut self.disk.inodes[inode] {
                    Inode::File(changes) => make_durable(changes, &covered, now),
                    Inode::Dir(changes) => make_durable(changes, &covered, now),
                }
                self.disk.flushes.push(now);
            }
            "ftruncate" | "fallocate" if result == 0 => {
                let Some(open) = number(arguments, 0).ok().and_then(|fd| self.fds.get(&fd)).copied() else {
                    return Ok(());
                };
                let what = if call.name == "ftruncate" {
                    FileChange::Length(u64::try_from(number(arguments, 1)?).map_err(|_| "negative length")?)
                } else {
                    match arguments.get(1).map(String::as_str) {
                        // Space without length: nothing that a reader sees.
                        Some("FALLOC_FL_KEEP_SIZE") => return Ok(()),
                        Some("0") => {
                            let end = number(arguments, 2)? + number(arguments, 3)?;
                            FileChange::AtLeast(u64::try_from(end).map_err(|_| "negative length")?)
                        }
                        // A hole punched into blocks beyond the length; inside it would be a change of content.
                        Some(mode) if mode.contains("PUNCH_HOLE") && mode.contains("KEEP_SIZE") => {
                            return self.punched(now, open, arguments);
                        }
                        _ => return Err("not modelled".to_owned()),
                    }
                };
                let change = Change { began: call.began, ended: now, durable: NEVER, what };
                self.file_changes(open.inode)?.push(change);
                self.disk.changes.push(now);
            }
            "lseek" => {
                let open = number(arguments, 0).ok().and_then(|fd| self.fds.get(&fd)).copied();
                if let (Some(open), Ok(offset)) = (open, u64::try_from(result)) {
                    self.descriptions[open.description].offset = offset;
                }
            }
            "fcntl" if result >= 0 && arguments.get(1).is_some_and(|what| what.starts_with("F_DUPFD")) => {
                self.duplicate(number(arguments, 0)?, result);
            }
            "dup" | "dup2" | "dup3" if result >= 0 => self.duplicate(number(arguments, 0)?, result),
            "mkdir" if result == 0 => self.made_dir(now, call.began, arguments.first())?,
            "mkdirat" if result == 0 => self.made_dir(now, call.began, arguments.get(1))?,
            "unlink" | "rmdir" if result == 0 => self.removed(now, call.began, arguments.first())?,
            "unlinkat" if result == 0 => {
                if on_disk(self) {
                    return Err("relative to a directory: not modelled".to_owned());
                }
                self.removed(now, call.began, arguments.get(1))?;
            }
            "rename" if result == 0 => self.renamed(now, call.began, arguments.first(), arguments.get(1))?,
            "renameat" | "renameat2" if result == 0 => {
                self.renamed(now, call.began, arguments.get(1), arguments.get(3))?;
            }
            "link" | "linkat" | "symlink" | "symlinkat" | "mknod" | "mknodat" | "truncate" if result == 0 => {
                self.refuse_path(arguments)?;
            }
            "mmap" => {
                let shared = arguments.get(2).is_some_and(|protection| protection.contains("PROT_WRITE"))
                    && arguments.get(3).is_some_and(|flags| flags.contains("MAP_SHARED"));
                let mapped = number(arguments, 4).is_ok_and(|fd| self.fds.contains_key(&fd));
                if shared && mapped {
                    return Err("a shared mapping: not modelled".to_owned());
                }
            }
            "pwritev" | "pwritev2" | "copy_file_range" | "sendfile" | "splice" | "tee" | "syncfs"
                if on_disk(self) =>
            {
                return Err("not modelled".to_owned());
            }
            "io_uring_setup" | "sync" | "fork" | "vfork" if result >= 0 => {
                return Err("not modelled".to_owned());
            }
            "clone" | "clone3" if result > 0 && !arguments.concat().contains("CLONE_FILES") => {
                return Err("another process: not modelled".to_owned());
            }
            "chdir" | "fchdir" if result == 0 => return Err("not modelled".to_owned()),
            _ => {}
        }
        Ok(())
    }

    fn opened(&mut self, now: Moment, call: &Pending, fd: i64) -> Result<(), String> {
        let path = path_of(call.arguments.get(1))?;
        if fd < 0 {
            return Ok(());
        }
        if path == self.said_path {
            self.said_fd = Some(fd);
            return Ok(());
        }
        let Some(path) = self.inside(&path) else {
            self.fds.remove(&fd);
            return Ok(());
        };
        let flags = call.arguments.get(2).ok_or("no flags")?;
        let inode = match self.names.get(&path) {
            Some(inode) => *inode,
            None if flags.contains("O_CREAT") => {
                self.disk.inodes.push(Inode::File(Vec::new()));
                let inode = self.disk.inodes.len() - 1;
                self.add(now, call.began, &path, inode)?;
                inode
            }
            None => return Err(format!("{} was opened and is not there", path.display())),
        };
        if flags.contains("O_TRUNC") {
            let change =
                Change { began: call.began, ended: now, durable: NEVER, what: FileChange::Length(0) };
            self.file_changes(inode)?.push(change);
        }
        self.descriptions.push(Description { offset: 0, append: flags.contains("O_APPEND") });
        self.fds.insert(fd, Open { inode, description: self.descriptions.len() - 1 });
        Ok(())
    }

    fn duplicate(&mut self, from: i64, to: i64) {
        match self.fds.get(&from).copied() {
            Some(open) => self.fds.insert(to, open),
            None => self.fds.remove(&to),
        };
    }

    /// Takes the position for a `write`, and moves it on.
    fn advance(&mut self, open: Open, length: u64) -> u64 {
        let size = match &self.disk.inodes[open.inode] {
            Inode::File(changes) => size(changes),
            Inode::Dir(_) => 0,
        };
        let description = &mut self.descriptions[open.description];
        let offset = if description.append { size } else { description.offset };
        description.offset = offset + length;
        offset
    }

    /// RocksDB frees the space that it reserved beyond the end of a file; that is no change of content.
    fn punched(&self, now: Moment, open: Open, arguments: &[String]) -> Result<(), String> {
        let from = u64::try_from(number(arguments, 2)?).map_err(|_| "negative offset")?;
        let length = match &self.disk.inodes[open.inode] {
            Inode::File(changes) => size(changes),
            Inode::Dir(_) => 0,
        };
        if from < length {
            return Err(format!("a hole at {from} in a file of {length} bytes: not modelled (step {now})"));
        }
        Ok(())
    }

    fn made_dir(&mut self, now: Moment, began: Moment, path: Option<&String>) -> Result<(), String> {
        let Some(path) = self.inside(&path_of(path)?) else { return Ok(()) };
        self.disk.inodes.push(Inode::Dir(Vec::new()));
        self.add(now, began, &path, self.disk.inodes.len() - 1)
    }

    fn add(&mut self, now: Moment, began: Moment, path: &Path, inode: InodeId) -> Result<(), String> {
        let (dir, name) = self.place(path)?;
        self.names.insert(path.to_owned(), inode);
        let what = DirChange::Add { name, inode };
        self.dir_changes(dir)?.push(Change { began, ended: now, durable: NEVER, what });
        self.disk.changes.push(now);
        Ok(())
    }

    fn removed(&mut self, now: Moment, began: Moment, path: Option<&String>) -> Result<(), String> {
        let Some(path) = self.inside(&path_of(path)?) else { return Ok(()) };
        let (dir, name) = self.place(&path)?;
        self.names.remove(&path).ok_or("removed and was not there")?;
        let what = DirChange::Remove { name };
        self.dir_changes(dir)?.push(Change { began, ended: now, durable: NEVER, what });
        self.disk.changes.push(now);
        Ok(())
    }

    fn renamed(
        &mut self,
        now: Moment,
        began: Moment,
        from: Option<&String>,
        to: Option<&String>,
    ) -> Result<(), String> {
        let (from, to) = (path_of(from)?, path_of(to)?);
        let (from, to) = match (self.inside(&from), self.inside(&to)) {
            (None, None) => return Ok(()),
            (Some(from), Some(to)) => (from, to),
            _ => return Err("renamed over the border of the disk: not modelled".to_owned()),
        };
        let ((dir, from_name), (to_dir, to_name)) = (self.place(&from)?, self.place(&to)?);
        let inode = self.names.remove(&from).ok_or("renamed and was not there")?;
        if dir != to_dir || matches!(self.disk.inodes[inode], Inode::Dir(_)) {
            return Err("a directory, or into another one: not modelled".to_owned());
        }
        self.names.insert(to, inode);
        let what = DirChange::Rename { from: from_name, to: to_name, inode };
        self.dir_changes(dir)?.push(Change { began, ended: now, durable: NEVER, what });
        self.disk.changes.push(now);
        Ok(())
    }

    fn refuse_path(&self, arguments: &[String]) -> Result<(), String> {
        let inside = arguments
            .iter()
            .filter_map(|text| trace::bytes(text))
            .any(|path| String::from_utf8(path).is_ok_and(|path| self.inside(Path::new(&path)).is_some()));
        if inside { Err("not modelled".to_owned()) } else { Ok(()) }
    }

    /// The path below the root of the disk, without `.`, or `None` for one that is elsewhere.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        let path = path.strip_prefix(self.root).ok()?;
        Some(path.components().filter(|part| matches!(part, Component::Normal(_))).collect())
    }

    fn place(&self, path: &Path) -> Result<(InodeId, String), String> {
        let dir = path.parent().and_then(|dir| self.names.get(dir)).ok_or("its directory is not there")?;
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("it has no name")?;
        Ok((*dir, name.to_owned()))
    }

    fn file_changes(&mut self, inode: InodeId) -> Result<&mut Vec<Change<FileChange>>, String> {
        match &mut self.disk.inodes[inode] {
            Inode::File(changes) => Ok(changes),
            Inode::Dir(_) => Err("a directory is no file".to_owned()),
        }
    }

    fn dir_changes(&mut self, inode: InodeId) -> Result<&mut Vec<Change<DirChange>>, String> {
        match &mut self.disk.inodes[inode] {
            Inode::Dir(changes) => Ok(changes),
            Inode::File(_) => Err("a file is no directory".to_owned()),
        }
    }
}

fn make_durable<T>(changes: &mut [Change<T>], covered: &[usize], now: Moment) {
    for index in covered {
        let durable = &mut changes[*index].durable;
        *durable = now.min(*durable);
    }
}

fn indices(ended: impl Iterator<Item = Moment>, wanted: impl Fn(&Moment) -> bool) -> Vec<usize> {
    ended.enumerate().filter(|(_, ended)| wanted(ended)).map(|(index, _)| index).collect()
}

fn size(changes: &[Change<FileChange>]) -> u64 {
    changes.iter().fold(0, |size, change| match &change.what {
        FileChange::Write { offset, bytes } => size.max(offset + bytes.len() as u64),
        FileChange::Length(length) => *length,
        FileChange::AtLeast(length) => size.max(*length),
    })
}

fn number(arguments: &[String], index: usize) -> Result<i64, String> {
    let text = arguments.get(index).ok_or("an argument is missing")?;
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

fn path_of(argument: Option<&String>) -> Result<PathBuf, String> {
    let bytes = argument.and_then(|text| trace::bytes(text)).ok_or("no path")?;
    Ok(PathBuf::from(String::from_utf8(bytes).map_err(|error| error.to_string())?))
}
