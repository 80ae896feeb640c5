//! A git repository: one commit a checkpoint, pushed to where somebody else decides what may be rewritten.
//!
//! Commits are made with git's plumbing in a bare repository of our own, on top of what the remote branch holds at
//! that moment: there is no work tree to be in the way, and a push that somebody else outran is refused by git and
//! tried again. A branch that no longer contains what we pushed was rewritten, and that is said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use verdict_ledger::note::Checkpoint;

use super::config::GitConfig;
use super::process::{ProcessError, Said, run};
use super::sink::{Holding, Publication, Readable, Receipt, Scene, Sink, SinkError};

/// Our own name for the branch as we saw it last.
const SEEN: &str = "refs/verdict/anchor";

#[derive(Debug)]
pub(super) struct GitSink {
    config: GitConfig,
    timeout: Duration,
}

impl GitSink {
    pub(super) fn new(config: &GitConfig, timeout: Duration) -> Self {
        Self { config: config.clone(), timeout }
    }

    fn directory(&self) -> &Path {
        &self.config.directory
    }

    fn git(&self, args: &[&str], input: &[u8], index: Option<&Path>) -> Result<Said, SinkError> {
        let mut command = Command::new("git");
        // Whatever repository the caller stands in is not ours, and nobody is there to type a password.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("GIT_") && !name.starts_with("GIT_SSH")) {
                command.env_remove(name);
            }
        }
        command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
        if let Some(index) = index {
            command.env("GIT_INDEX_FILE", index);
        }
        command.arg("--git-dir").arg(self.directory()).args(args);
        run(&mut command, input, self.timeout).map_err(|error| match error {
            ProcessError::Start { .. } => SinkError::Refused(format!("{error}; the git sink needs git")),
            other => SinkError::Unreachable(other.to_string()),
        })
    }

    /// Runs a step that works on what is here.
    fn local(&self, args: &[&str], input: &[u8], index: Option<&Path>) -> Result<String, SinkError> {
        let said = self.git(args, input, index)?;
        if !said.ok {
            let step = args.first().copied().unwrap_or_default();
            return Err(SinkError::Refused(format!(
                "git {step} in {} failed: {}",
                self.directory().display(),
                said.err
            )));
        }
        Ok(String::from_utf8_lossy(&said.out).trim_end_matches('\n').to_owned())
    }

    /// Runs a step that talks to the remote.
    fn remote(&self, args: &[&str]) -> Result<Said, SinkError> {
        let said = self.git(args, b"", None)?;
        if said.ok {
            return Ok(said);
        }
        let step = args.first().copied().unwrap_or_default();
        Err(SinkError::Unreachable(format!("git {step} {} failed: {}", self.config.url, said.err)))
    }

    fn prepare(&self) -> Result<(), SinkError> {
        let dir = self.directory();
        if dir.join("HEAD").exists() {
            return Ok(());
        }
        fs::create_dir_all(dir)
            .map_err(|error| SinkError::Refused(format!("cannot make {}: {error}", dir.display())))?;
        self.local(&["init", "--quiet", "--bare"], b"", None).map(|_| ())
    }

    /// Fetches the branch and returns its commit; `None` when the remote has no such branch. A branch that does not
    /// contain what we saw last was rewritten.
    fn fetch(&self) -> Result<Option<String>, SinkError> {
        self.prepare()?;
        let branch = format!("refs/heads/{}", self.config.branch);
        let listed = self.remote(&["ls-remote", "--", &self.config.url, &branch])?;
        let seen = self.seen()?;
        if listed.out.is_empty() {
            return match seen {
                None => Ok(None),
                Some(seen) => Err(SinkError::Unfaithful(format!(
                    "{} no longer has the branch `{}`, which was at {seen}",
                    self.config.url, self.config.branch
                ))),
            };
        }
        let refspec = format!("{branch}:refs/verdict/fetched");
        self.remote(&["fetch", "--quiet", "--no-tags", "--force", "--", &self.config.url, &refspec])?;
        let tip = self.local(&["rev-parse", "--verify", "refs/verdict/fetched^{commit}"], b"", None)?;
        if let Some(seen) = seen {
            let contained = self.git(&["merge-base", "--is-ancestor", &seen, &tip], b"", None)?;
            if !contained.ok {
                return Err(SinkError::Unfaithful(format!(
                    "the branch `{}` of {} was rewritten: it no longer contains commit {seen}",
                    self.config.branch, self.config.url
                )));
            }
        }
        self.local(&["update-ref", SEEN, &tip], b"", None)?;
        Ok(Some(tip))
    }

    fn seen(&self) -> Result<Option<String>, SinkError> {
        let said = self.git(&["rev-parse", "--quiet", "--verify", SEEN], b"", None)?;
        Ok(said.ok.then(|| String::from_utf8_lossy(&said.out).trim().to_owned()))
    }

    /// Reads the checkpoint that a commit holds; `None` when the file is not there.
    fn note(&self, commit: &str) -> Result<Option<String>, SinkError> {
        let spec = format!("{commit}:{}", self.config.path);
        let listed = self.git(&["cat-file", "-e", &spec], b"", None)?;
        if !listed.ok {
            return Ok(None);
        }
        let said = self.git(&["cat-file", "blob", &spec], b"", None)?;
        if !said.ok {
            return Err(SinkError::Unfaithful(format!("`{}` is not a file: {}", self.config.path, said.err)));
        }
        Ok(Some(String::from_utf8_lossy(&said.out).into_owned()))
    }

    fn place(&self) -> String {
        format!("{} ({}:{})", self.config.url, self.config.branch, self.config.path)
    }

    fn commit(&self, tip: Option<&str>, note: &str, checkpoint: &Checkpoint) -> Result<String, SinkError> {
        let blob = self.local(&["hash-object", "-w", "--stdin"], note.as_bytes(), None)?;
        // An index of its own for this commit; two processes must not share one.
        let index = Index(self.directory().join(format!("anchor-index-{}", std::process::id())));
        let at = Some(index.0.as_path());
        match tip {
            Some(tip) => self.local(&["read-tree", tip], b"", at)?,
            None => self.local(&["read-tree", "--empty"], b"", at)?,
        };
        let entry = format!("100644,{blob},{}", self.config.path);
        self.local(&["update-index", "--add", "--cacheinfo", &entry], b"", at)?;
        let tree = self.local(&["write-tree"], b"", at)?;
        let message = format!("Checkpoint of {} entries\n\nRoot {}\n", checkpoint.size, checkpoint.root);
        let name = format!("user.name={}", self.config.author_name);
        let email = format!("user.email={}", self.config.author_email);
        let mut args = vec!["-c", &name, "-c", &email, "commit-tree", &tree];
        if let Some(tip) = tip {
            args.extend(["-p", tip]);
        }
        self.local(&args, message.as_bytes(), None)
    }
}

/// A temporary index, removed at the end.
struct Index(PathBuf);

impl Drop for Index {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Sink for GitSink {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn kind(&self) -> &'static str {
        "git"
    }

    fn publish(&self, publication: &Publication<'_>) -> Result<Receipt, SinkError> {
        let scene = publication.scene;
        let tip = self.fetch()?;
        let held = match &tip {
            Some(tip) => self.note(tip)?,
            None => None,
        };
        let lost =
            || SinkError::Unfaithful(format!("{} has lost the checkpoint that it was given", self.place()));
        let mut receipt = Receipt::new();
        match &held {
            Some(held) => {
                let checkpoint = scene.check(held, &self.place())?;
                if publication.last_checkpoint().is_some_and(|last| last.size > checkpoint.size) {
                    return Err(lost());
                }
                if checkpoint.size >= publication.checkpoint.size {
                    // Another process of this ledger was here with as much, and the ledger agrees with it.
                    receipt.insert("commit".to_owned(), Value::from(tip.unwrap_or_default()));
                    return Ok(receipt);
                }
            }
            None if publication.last.is_some() => return Err(lost()),
            None => {}
        }
        let commit = self.commit(tip.as_deref(), publication.note, publication.checkpoint)?;
        let refspec = format!("{commit}:refs/heads/{}", self.config.branch);
        self.remote(&["push", "--quiet", "--", &self.config.url, &refspec])?;
        self.local(&["update-ref", SEEN, &commit], b"", None)?;
        receipt.insert("commit".to_owned(), Value::from(commit));
        Ok(receipt)
    }

    fn holdings(
        &self,
        _scene: &Scene<'_>,
        tell: &mut dyn FnMut(Holding) -> Result<(), SinkError>,
    ) -> Result<Readable, SinkError> {
        let Some(tip) = self.fetch()? else { return Ok(Readable::Yes) };
        // Oldest first, so that the first checkpoint that the ledger contradicts is the one that is named.
        let history = self.local(&["rev-list", "--reverse", &tip, "--", &self.config.path], b"", None)?;
        for commit in history.lines() {
            if let Some(note) = self.note(commit)? {
                let short = commit.get(..12).unwrap_or(commit);
                tell(Holding { note, detail: format!("commit {short}") })?;
            }
        }
        Ok(Readable::Yes)
    }
}
