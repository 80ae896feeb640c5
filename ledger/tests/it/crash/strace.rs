//! strace, where it is there and allowed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::skipped;

/// Tells whether strace works here; says loudly when not.
pub(super) fn is_there() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    *THERE.get_or_init(|| {
        if std::env::var_os("SKIP_STRACE").is_some_and(|value| value == "1") {
            skipped("SKIP_STRACE=1, no system call was recorded and none was made to fail");
            return false;
        }
        let traced =
            Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).stderr(Stdio::piped()).output();
        match traced {
            Ok(output) if output.status.success() => true,
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                skipped(&format!("strace does not work here, no power loss and no fault was tested: {why}"));
                false
            }
            Err(error) => {
                skipped(&format!("there is no strace, no power loss and no fault was tested: {error}"));
                false
            }
        }
    })
}

/// Every call that changes a disk or says which descriptor is which file, and those that would get around the
/// recording: the replay refuses a recording in which one of them touches the disk.
const RECORDED: &str = "open,openat,openat2,creat,close,close_range,dup,dup2,dup3,fcntl,lseek,\
    write,pwrite64,writev,pwritev,pwritev2,sendfile,splice,tee,copy_file_range,\
    ftruncate,truncate,fallocate,fsync,fdatasync,sync,syncfs,sync_file_range,msync,\
    rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat,mknod,mknodat,\
    mmap,io_uring_setup,io_uring_enter,clone,clone3,fork,vfork,chdir,fchdir";

/// Longest string that strace prints; a longer write would be cut, and the replay refuses a cut one.
const STRING_BYTES_MAX: usize = 64 << 20;

/// Arguments that record into a file.
pub(super) fn recording(into: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["strace", "-f", "--seccomp-bpf", "-qqq", "-e", "signal=none", "-xx", "-s"].map(Into::into).to_vec();
    arguments.push(STRING_BYTES_MAX.to_string().into());
    arguments.push("-e".into());
    arguments.push(format!("trace={RECORDED}").into());
    arguments.push("-o".into());
    arguments.push(into.into());
    arguments.push("--".into());
    arguments
}

/// Calls that can fail and matter when they do.
const FALLIBLE: &str = "openat,write,pwrite64,fsync,fdatasync,ftruncate,fallocate,rename,unlink,mkdir";

/// Arguments that list those calls with the files that they are made on.
pub(super) fn counting(into: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["strace", "-f", "--seccomp-bpf", "-qqq", "-y", "-e", "signal=none", "-s", "0"]
            .map(Into::into)
            .to_vec();
    arguments.push("-e".into());
    arguments.push(format!("trace={FALLIBLE}").into());
    arguments.push("-o".into());
    arguments.push(into.into());
    arguments.push("--".into());
    arguments
}

/// Reads thread, call and file out of a line of such a list; only files that are opened for writing count as opened.
pub(super) fn call_on_file(line: &str) -> Option<(String, String, PathBuf)> {
    let (thread, rest) = line.split_once(' ')?;
    let (name, arguments) = rest.trim_start().split_once('(')?;
    let path = match name {
        "openat" => {
            let writes = ["O_CREAT", "O_WRONLY", "O_RDWR"].iter().any(|flag| arguments.contains(flag));
            if !writes {
                return None;
            }
            arguments.split('"').nth(1)?
        }
        "rename" | "unlink" | "mkdir" => arguments.split('"').nth(1)?,
        _ if FALLIBLE.split(',').any(|call| call == name) => {
            let (_, rest) = arguments.split_once('<')?;
            rest.split_once('>')?.0
        }
        _ => return None,
    };
    Some((thread.to_owned(), name.to_owned(), path.into()))
}

/// One fault: from the `first`th call of each thread on a file on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) call: String,
    pub(super) path: PathBuf,
    pub(super) error: &'static str,
    pub(super) first: usize,
    /// Also every later call: a disk that stays broken.
    pub(super) lasting: bool,
}

impl Fault {
    /// Arguments that inject the fault and write what was injected into a file.
    pub(super) fn arguments(&self, into: &Path) -> Vec<OsString> {
        let when = format!("{}{}", self.first, if self.lasting { "+" } else { "" });
        let inject = format!("inject={}:error={}:when={when}", self.call, self.error);
        let mut arguments: Vec<OsString> =
            ["strace", "-f", "--seccomp-bpf", "-qqq", "-e", "signal=none", "-s", "0"]
                .map(Into::into)
                .to_vec();
        for argument in ["-e", &format!("trace={}", self.call), "-e", &inject, "-P"] {
            arguments.push(argument.into());
        }
        arguments.push(self.path.clone().into());
        arguments.push("-o".into());
        arguments.push(into.into());
        arguments.push("--".into());
        arguments
    }
}
