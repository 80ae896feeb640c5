//! Where the passphrase of encrypted key files comes from: a file, or the terminal. Never an argument, which every
//! user of the machine can read, and never a variable, which every child inherits.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use verdict_ledger::key::{PASSPHRASE_BYTES_MAX, Passphrase, Passphrases};

use crate::exit::{CliError, Kind};

/// Asks at most once: one passphrase opens all files of a ledger.
#[derive(Debug)]
pub(crate) struct Source {
    file: Option<PathBuf>,
    held: Mutex<Option<Passphrase>>,
}

impl Source {
    /// Takes the passphrase from a file, or from the terminal when there is none.
    pub(crate) const fn new(file: Option<PathBuf>) -> Self {
        Self { file, held: Mutex::new(None) }
    }

    /// Returns the passphrase that a new file is encrypted with; a terminal asks twice.
    pub(crate) fn for_new_files(&self) -> Result<Passphrase, CliError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(passphrase) = &*held {
            return Ok(passphrase.clone());
        }
        let passphrase = match &self.file {
            Some(file) => read(file).map_err(CliError::unusable)?,
            None => twice()?,
        };
        if !passphrase.is_strong_enough() {
            return Err(CliError::unusable("the passphrase is shorter than 8 characters"));
        }
        *held = Some(passphrase.clone());
        Ok(passphrase)
    }
}

impl Passphrases for Source {
    fn passphrase(&self, key: &Path) -> Result<Option<Passphrase>, String> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            *held = match &self.file {
                Some(file) => Some(read(file)?),
                None => {
                    ask(&format!("passphrase for {}: ", key.display())).map_err(|error| error.to_string())?
                }
            };
        }
        Ok(held.clone())
    }
}

/// Reads the first line of a file.
fn read(path: &Path) -> Result<Passphrase, String> {
    let cannot = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let file = fs::File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    // A pipe (`<(…)`) has no mode to speak of.
    if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
        let mode = metadata.permissions().mode() & 0o777;
        return Err(format!(
            "{} can be read by other users (mode {mode:o}); run chmod 600 on it",
            path.display()
        ));
    }
    let limit = u64::try_from(PASSPHRASE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(2);
    first_line(file.take(limit)).map_err(cannot)?.ok_or_else(|| {
        format!(
            "the first line of {} is no passphrase: it is empty, or longer than 1024 bytes",
            path.display()
        )
    })
}

fn first_line(from: impl io::Read) -> io::Result<Option<Passphrase>> {
    let mut line = zeroize::Zeroizing::new(String::new());
    BufReader::new(from).read_line(&mut line)?;
    Ok(Passphrase::new(line.trim_end_matches(['\r', '\n'])))
}

fn twice() -> Result<Passphrase, CliError> {
    let asked =
        |error: io::Error| CliError::new(Kind::Environment, format!("cannot ask for a passphrase: {error}"));
    let missing = || {
        CliError::unusable("a passphrase is needed, and there is nobody to ask")
            .hint("name a file that holds it with --passphrase-file or VERDICT_PASSPHRASE_FILE")
    };
    let first = ask("new passphrase: ").map_err(asked)?.ok_or_else(missing)?;
    let second = ask("the same again: ").map_err(asked)?.ok_or_else(missing)?;
    if !first.is_same_as(&second) {
        return Err(CliError::unusable("the two passphrases differ"));
    }
    Ok(first)
}

/// Asks on the terminal, whatever stdin is; `None` without one.
fn ask(prompt: &str) -> io::Result<Option<Passphrase>> {
    let Ok(mut terminal) = fs::OpenOptions::new().read(true).write(true).open("/dev/tty") else {
        return Ok(None);
    };
    terminal.write_all(prompt.as_bytes())?;
    let before = tcgetattr(&terminal)?;
    let mut hidden = before.clone();
    hidden.local_modes -= LocalModes::ECHO;
    tcsetattr(&terminal, OptionalActions::Flush, &hidden)?;
    let line = first_line(&terminal);
    let restored = tcsetattr(&terminal, OptionalActions::Flush, &before);
    terminal.write_all(b"\n")?;
    restored?;
    line
}
