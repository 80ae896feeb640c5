//! `add-checkpoint`: what a log sends to a witness, and what a witness answers.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::merkle::{Hash, ProofError};
use crate::note::{Checkpoint, NOTE_BYTES_MAX, NoteError, NoteSignature, SignedNote, malformed};

/// Most consistency proof lines of a request, set by the specification.
pub const PROOF_LINES_MAX: usize = 63;

/// Longest request that is read: the longest note, a full proof, and the line with the old size.
pub const REQUEST_BYTES_MAX: usize = NOTE_BYTES_MAX + PROOF_LINES_MAX * 45 + 32;

/// Longest answer that is read.
pub const ANSWER_BYTES_MAX: usize = NOTE_BYTES_MAX;

/// Content type of the body of a conflict.
pub const SIZE_CONTENT_TYPE: &str = "text/x.tlog.size";

/// Content type of every other body.
pub const TEXT_CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// A request to cosign a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the checkpoint that the witness cosigned last, as far as the log knows; 0 for none.
    pub old: u64,
    /// Consistency proof from the old size.
    pub proof: Vec<Hash>,
    /// The signed checkpoint.
    pub note: SignedNote,
    /// What the note says.
    pub checkpoint: Checkpoint,
}

impl AddCheckpoint {
    /// Makes a request of a signed checkpoint.
    pub fn new(old: u64, proof: Vec<Hash>, note: &str) -> Result<Self, NoteError> {
        let note = SignedNote::parse(note)?;
        let checkpoint = Checkpoint::from_text(&note.text)?;
        Ok(Self { old, proof, note, checkpoint })
    }

    /// Parses a request body. Nothing is verified yet.
    pub fn parse(body: &[u8]) -> Result<Self, NoteError> {
        let what = "add-checkpoint request";
        if body.len() > REQUEST_BYTES_MAX {
            return Err(malformed(what, "too long"));
        }
        let body = std::str::from_utf8(body).map_err(|_| malformed(what, "not UTF-8"))?;
        let (old, mut rest) =
            body.split_once('\n').ok_or(malformed(what, "no line `old N` with the old size"))?;
        let old = old.strip_prefix("old ").and_then(size).ok_or(malformed(
            what,
            "the first line is not `old N` with a decimal number without leading zeros",
        ))?;
        let mut proof = Vec::new();
        loop {
            let (line, after) =
                rest.split_once('\n').ok_or(malformed(what, "no empty line before the checkpoint"))?;
            rest = after;
            if line.is_empty() {
                break;
            }
            if proof.len() == PROOF_LINES_MAX {
                return Err(malformed(what, "more than 63 consistency proof lines"));
            }
            let hash = BASE64.decode(line).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            proof.push(Hash(hash.ok_or(malformed(what, "a proof line is not 32 bytes of base64"))?));
        }
        Self::new(old, proof, rest)
    }
}

/// Writes the request body.
impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        for hash in &self.proof {
            writeln!(f, "{}", BASE64.encode(hash.0))?;
        }
        write!(f, "\n{}\n", self.note.text)?;
        self.note.signatures.iter().try_for_each(|line| write!(f, "{line}"))
    }
}

/// A decimal number without leading zeros.
fn size(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
    if canonical { text.parse().ok() } else { None }
}

/// Why a witness does not cosign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request is not one.
    #[error(transparent)]
    Malformed(#[from] NoteError),
    /// The old size is beyond the new one.
    #[error("the old size {old} is beyond the checkpoint's size {size}")]
    OldSize {
        /// Old size in the request.
        old: u64,
        /// Size of the checkpoint.
        size: u64,
    },
    /// The witness does not know the log.
    #[error("log `{origin}` is not known to this witness")]
    UnknownLog {
        /// Origin of the checkpoint.
        origin: String,
    },
    /// No signature by a key that the witness trusts for the log.
    #[error("no signature by a key that is trusted for log `{origin}`")]
    Unsigned {
        /// Origin of the checkpoint.
        origin: String,
    },
    /// The witness has seen another size than the log believes, perhaps a larger one than the checkpoint's.
    #[error("the last cosigned checkpoint has size {size}")]
    Conflict {
        /// Size of the last cosigned checkpoint.
        size: u64,
    },
    /// The witness has cosigned another tree of this very size.
    #[error("another checkpoint of size {size} was cosigned: the log has two histories")]
    Forked {
        /// Size of the last cosigned checkpoint.
        size: u64,
    },
    /// The new tree does not contain the old one.
    #[error("the consistency proof does not hold: {0}")]
    Inconsistent(#[from] ProofError),
}

impl Refusal {
    /// Returns the HTTP status that the specification asks for.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::OldSize { .. } => 400,
            Self::Unsigned { .. } => 403,
            Self::UnknownLog { .. } => 404,
            Self::Conflict { .. } | Self::Forked { .. } => 409,
            Self::Inconsistent(_) => 422,
        }
    }

    /// Returns content type and body.
    pub fn body(&self) -> (&'static str, String) {
        match self {
            // The specification gives the size for an old size that does not match. A fork is told the same way: a
            // client that sent this very size understands it, and any other can do nothing else with the answer.
            Self::Conflict { size } | Self::Forked { size } => (SIZE_CONTENT_TYPE, format!("{size}\n")),
            other => (TEXT_CONTENT_TYPE, format!("{other}\n")),
        }
    }
}

/// What a witness said, as a client understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Signature lines; by which keys is for the client to check.
    Cosigned(Vec<NoteSignature>),
    /// The witness is at another size.
    Conflict {
        /// Size of the last checkpoint that it cosigned.
        size: u64,
    },
    /// The witness says that the new tree does not contain the old one.
    Inconsistent,
    /// Any other refusal, with what the witness wrote.
    Refused {
        /// HTTP status.
        status: u16,
        /// Start of the body.
        text: String,
    },
}

/// Most characters of a refusal that are kept.
const REFUSAL_CHARS_MAX: usize = 200;

impl Answer {
    /// Reads an answer. A success that is not one, or a conflict without a size, is an error: a witness that
    /// cannot be understood has not cosigned.
    pub fn parse(status: u16, content_type: &str, body: &[u8]) -> Result<Self, NoteError> {
        let what = "witness answer";
        let text = || std::str::from_utf8(body).map_err(|_| malformed(what, "not UTF-8"));
        match status {
            200 => {
                if body.len() > ANSWER_BYTES_MAX {
                    return Err(malformed(what, "too long"));
                }
                let text = text()?;
                if !text.ends_with('\n') {
                    return Err(malformed(what, "the signature lines do not end with a newline"));
                }
                let lines = text.lines().map(NoteSignature::parse).collect::<Result<Vec<_>, _>>()?;
                Ok(Self::Cosigned(lines))
            }
            // Parameters after the type change nothing.
            409 if content_type
                .split(';')
                .next()
                .is_some_and(|kind| kind.trim().eq_ignore_ascii_case(SIZE_CONTENT_TYPE)) =>
            {
                let size = text()?.strip_suffix('\n').and_then(size);
                let size = size.ok_or(malformed(what, "a conflict does not give a size"))?;
                Ok(Self::Conflict { size })
            }
            422 => Ok(Self::Inconsistent),
            _ => {
                let text = String::from_utf8_lossy(body);
                let text = text.chars().take(REFUSAL_CHARS_MAX).collect::<String>().trim().to_owned();
                Ok(Self::Refused { status, text })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const SPEC: &str = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
        \n\
        example.com/behind-the-sofa\n\
        20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
        \n\
        — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        — example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";

    #[test]
    fn the_request_of_the_specification_is_read_and_written_back() {
        let request = AddCheckpoint::parse(SPEC.as_bytes()).unwrap();
        assert_eq!((request.old, request.proof.len(), request.checkpoint.size), (20_852_014, 4, 20_852_163));
        assert_eq!(request.note.signatures.len(), 2);
        assert_eq!(request.to_string(), SPEC);
    }

    #[test]
    fn malformed_requests_are_refused_with_a_reason() {
        let proof = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n";
        let checkpoint = SPEC.split_once("\n\n").unwrap().1;
        let with = |head: &str| format!("{head}\n{checkpoint}");
        let cases = [
            (String::new(), "old N"),
            ("old 1".into(), "old N"),
            (with("size 1\n"), "old N"),
            (with("old 01\n"), "old N"),
            (with("old -1\n"), "old N"),
            (with("old +1\n"), "old N"),
            (with("old 1 \n"), "old N"),
            (with("old 18446744073709551616\n"), "old N"),
            (with("old \n"), "old N"),
            (with("OLD 1\n"), "old N"),
            ("old 1\n".into(), "empty line"),
            (format!("old 1\n{proof}"), "empty line"),
            (with("old 1\nnot base64\n"), "32 bytes"),
            (with("old 1\nAAAA\n"), "32 bytes"),
            (with(&format!("old 1\n{}", proof.repeat(64))), "63"),
            ("old 1\n\n".into(), "signed note"),
            ("old 1\n\nx\n".into(), "signed note"),
            ("old 1\n\nx\n1\nAAAA\n\n— x AAAAAAAA\n".into(), "root"),
            ("old 1\n\nx\n01\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— x AAAAAAAA\n".into(), "size"),
            (SPEC.replace('\n', "\r\n"), "old N"),
            (SPEC.replace("sofa\n", "sofa\u{0}\n"), "control"),
            (format!("{SPEC}{}", "x".repeat(REQUEST_BYTES_MAX)), "too long"),
        ];
        for (body, why) in cases {
            let error = AddCheckpoint::parse(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{body:.60}: {error}");
        }
        assert!(AddCheckpoint::parse(b"old 1\n\xff\n").is_err());
        assert!(AddCheckpoint::parse(with(&format!("old 1\n{}", proof.repeat(63))).as_bytes()).is_ok());
    }

    #[test]
    fn answers_are_understood_or_refused() {
        let conflict = |content_type, body: &str| Answer::parse(409, content_type, body.as_bytes());
        assert_eq!(conflict("text/x.tlog.size", "12\n"), Ok(Answer::Conflict { size: 12 }));
        assert_eq!(conflict("Text/X.Tlog.Size; charset=utf-8", "0\n"), Ok(Answer::Conflict { size: 0 }));
        for bad in ["", "12", "012\n", "x\n", "1\n2\n", "-1\n"] {
            assert!(conflict("text/x.tlog.size", bad).is_err(), "{bad:?}");
        }
        let refused = Answer::Refused { status: 409, text: "12".into() };
        assert_eq!(conflict("text/plain", "12\n"), Ok(refused));
        assert_eq!(Answer::parse(422, "", b"\xff"), Ok(Answer::Inconsistent));
        for bad in ["", "— w AAAA", "x\n", "— w\n", "— w AAAAAAAA\n\n"] {
            assert!(Answer::parse(200, "text/plain", bad.as_bytes()).is_err(), "{bad:?}");
        }
        let Ok(Answer::Cosigned(lines)) = Answer::parse(200, "", "— w AAAAAAAA\n— v AAAAAAAA\n".as_bytes())
        else {
            panic!("two lines are two lines")
        };
        assert_eq!(lines.len(), 2);
        assert_eq!(
            Answer::parse(500, "", b"oops\n"),
            Ok(Answer::Refused { status: 500, text: "oops".into() })
        );
    }

    #[test]
    fn every_refusal_has_its_status_and_only_conflicts_have_a_size() {
        let all = [
            (Refusal::Malformed(malformed("x", "y")), 400),
            (Refusal::OldSize { old: 2, size: 1 }, 400),
            (Refusal::Unsigned { origin: "o".into() }, 403),
            (Refusal::UnknownLog { origin: "o".into() }, 404),
            (Refusal::Conflict { size: 7 }, 409),
            (Refusal::Forked { size: 7 }, 409),
            (Refusal::Inconsistent(ProofError::Sizes { old: 2, new: 1 }), 422),
        ];
        for (refusal, status) in all {
            assert_eq!(refusal.status(), status);
            let (content_type, body) = refusal.body();
            assert_eq!(content_type == SIZE_CONTENT_TYPE, status == 409, "{refusal}");
            assert!(body.ends_with('\n') && (status != 409 || body == "7\n"), "{body}");
        }
    }
}
