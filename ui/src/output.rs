//! Where a command's words go: results to stdout, everything else to stderr.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;
use serde_json::json;

use crate::cli::{ColorChoice, Format};
use crate::exit::{CliError, Kind};

/// Writes results and remarks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Option<Format>,
    colour: ColorChoice,
    quiet: bool,
}

impl Output {
    /// Makes the output of a command.
    pub(crate) const fn new(format: Option<Format>, colour: ColorChoice, quiet: bool) -> Self {
        Self { format, colour, quiet }
    }

    /// Returns the format, if the command can write it.
    pub(crate) fn format(self, can: &[Format]) -> Result<Format, CliError> {
        let Some(asked) = self.format else {
            return can
                .first()
                .copied()
                .ok_or_else(|| CliError::unusable("this command has no output format"));
        };
        if can.contains(&asked) {
            return Ok(asked);
        }
        let names: Vec<&str> = can.iter().map(|format| format.as_str()).collect();
        Err(CliError::unusable(format!("this command cannot write `{}`", asked.as_str()))
            .hint(format!("use --format {}", names.join(" or "))))
    }

    /// Tells whether the result is to be JSON; for commands that write text or JSON.
    pub(crate) fn is_json(self) -> Result<bool, CliError> {
        Ok(self.format(&[Format::Human, Format::Json])? == Format::Json)
    }

    /// Tells whether results may hold escape sequences.
    pub(crate) fn colour(self) -> bool {
        match self.colour {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                // https://no-color.org: any value that is not empty.
                let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                !refused && io::stdout().is_terminal()
            }
        }
    }

    /// Tells whether progress may be drawn.
    pub(crate) fn draws_progress(self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Writes a result. A reader that has gone away (`| head`) is no error: what it read was right.
    pub(crate) fn result(self, text: &str) -> Result<(), CliError> {
        self.bytes(text.as_bytes())
    }

    /// Writes a result of bytes.
    #[expect(clippy::unused_self, reason = "results go through the output, whatever it needs to know")]
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(CliError::new(Kind::Environment, format!("cannot write the result: {error}"))),
            Ok(()) => Ok(()),
        }
    }

    /// Writes a result as indented JSON.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<(), CliError> {
        let mut text = serde_json::to_string_pretty(value).map_err(|error| {
            CliError::new(Kind::Environment, format!("cannot write the result as JSON: {error}"))
        })?;
        text.push('\n');
        self.result(&text)
    }

    /// Tells something beside the result.
    pub(crate) fn note(self, text: &str) {
        if !self.quiet {
            self.remark("note", text, text);
        }
    }

    /// Warns; also when told to be quiet.
    pub(crate) fn warn(self, text: &str) {
        self.remark("warning", text, &format!("warning: {text}"));
    }

    /// Who asked for JSON reads stderr by machine too: every line of it is then an object.
    fn remark(self, kind: &str, text: &str, plain: &str) {
        if self.format == Some(Format::Json) {
            stderr(&json!({kind: text}).to_string());
        } else {
            stderr(plain);
        }
    }

    /// Tells why the command did not do its work.
    pub(crate) fn error(self, error: &CliError) {
        if self.format == Some(Format::Json) {
            let value = json!({"error": {
                "kind": error.kind.as_str(),
                "exit_code": error.kind.exit().code(),
                "message": error.message,
                "hints": error.hints,
            }});
            stderr(&value.to_string());
            return;
        }
        stderr(&format!("error: {}", error.message));
        for hint in &error.hints {
            stderr(&format!("hint: {hint}"));
        }
    }
}

/// Writes a line to stderr, where there is nobody left to tell that it failed. Texts quote what came from outside.
fn stderr(text: &str) {
    let safe: Vec<String> = text.lines().map(verdict_diff::render::text::visible).collect();
    let _ = writeln!(io::stderr().lock(), "{}", safe.join("\n"));
}
