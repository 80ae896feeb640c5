//! A file of anchor records, best on another volume.

use std::path::Path;

use verdict_ledger::anchor::{AnchorError, AnchorFile, AnchorRecord};

use super::config::{FileConfig, chain};
use super::sink::{Holding, Publication, Readable, Receipt, Scene, Sink, SinkError};

#[derive(Debug)]
pub(super) struct FileSink {
    name: String,
    file: AnchorFile,
}

impl FileSink {
    pub(super) fn new(config: &FileConfig) -> Self {
        Self { name: config.name.clone(), file: AnchorFile::new(&config.path) }
    }

    fn path(&self) -> &Path {
        self.file.path()
    }

    fn refused(error: &AnchorError) -> SinkError {
        match error {
            AnchorError::Damaged { .. } => SinkError::Unfaithful(chain(error)),
            // Nothing that waiting mends: a directory that is missing, a full disk.
            _ => SinkError::Refused(chain(error)),
        }
    }
}

impl Sink for FileSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "file"
    }

    fn publish(&self, publication: &Publication<'_>) -> Result<Receipt, SinkError> {
        let scene = publication.scene;
        let newest = self.file.newest(scene.keys).map_err(|error| Self::refused(&error))?;
        match (newest, publication.last_checkpoint()) {
            (Some(newest), last) => {
                scene.check(&newest.record.note, &self.path().display().to_string())?;
                if last.is_some_and(|last| last.size > newest.checkpoint.size) {
                    return Err(self.lost());
                }
            }
            (None, Some(_)) => return Err(self.lost()),
            (None, None) => {}
        }
        let record = AnchorRecord::new(
            scene.clock.now_ns(),
            &self.name,
            self.kind(),
            publication.note,
            Receipt::new(),
        );
        let record = record.map_err(|error| SinkError::Refused(error.to_string()))?;
        self.file.append(&record).map_err(|error| Self::refused(&error))?;
        Ok(Receipt::new())
    }

    fn holdings(
        &self,
        _scene: &Scene<'_>,
        tell: &mut dyn FnMut(Holding) -> Result<(), SinkError>,
    ) -> Result<Readable, SinkError> {
        if !self.path().exists() {
            return Err(SinkError::Refused(format!("{} is missing", self.path().display())));
        }
        let mut result = Ok(());
        let mut bad = 0u64;
        let read = self.file.read(|_, record| match record {
            Ok(record) if result.is_ok() => {
                let detail = format!("written {}", record.time);
                result = tell(Holding { note: record.note, detail });
            }
            Ok(_) => {}
            // What a power cut left of a line; a file that holds nothing else is noticed below.
            Err(_) => bad += 1,
        });
        read.map_err(|error| Self::refused(&error))?;
        result?;
        if bad > 0 {
            tracing::warn!(path = %self.path().display(), lines = bad, "lines that are no anchor records");
        }
        Ok(Readable::Yes)
    }
}

impl FileSink {
    fn lost(&self) -> SinkError {
        SinkError::Unfaithful(format!(
            "{} has lost checkpoints that the anchor log says it was given",
            self.path().display()
        ))
    }
}
