//! Text that agents and tools wrote, made safe to read.

use std::fmt::{self, Write};

use askama::filters::Escaper;

/// Escapes for HTML text and attributes, and makes characters visible that a terminal or a browser would act on
/// or hide: controls, bidirectional overrides, zero-width and tag characters. `U+202E` in a tool name could
/// otherwise make `exe.txt` out of `txt.exe`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct VisibleHtml;

impl Escaper for VisibleHtml {
    fn write_escaped_str<W: Write>(&self, mut dest: W, string: &str) -> fmt::Result {
        let mut rest = string;
        while let Some((at, character)) = rest.char_indices().find(|(_, c)| needs_work(*c)) {
            dest.write_str(rest.get(..at).unwrap_or_default())?;
            match character {
                '<' => dest.write_str("&lt;")?,
                '>' => dest.write_str("&gt;")?,
                '&' => dest.write_str("&amp;")?,
                '"' => dest.write_str("&quot;")?,
                '\'' => dest.write_str("&#39;")?,
                hidden => write!(dest, "\u{27e8}U+{:04X}\u{27e9}", u32::from(hidden))?,
            }
            rest = rest.get(at + character.len_utf8()..).unwrap_or_default();
        }
        dest.write_str(rest)
    }
}

fn needs_work(character: char) -> bool {
    matches!(character, '<' | '>' | '&' | '"' | '\'') || is_hidden(character)
}

/// Tells whether a character deceives; line ends and tabs are part of the texts that pages show.
pub(crate) const fn is_hidden(character: char) -> bool {
    !matches!(character, '\n' | '\t') && verdict_ledger::text::is_hidden(character)
}

/// Cuts a text to a number of characters and says so with an ellipsis.
pub(crate) fn shorten(text: &str, characters_max: usize) -> String {
    if text.char_indices().nth(characters_max).is_none() {
        return text.to_owned();
    }
    let keep = characters_max.saturating_sub(1);
    let end = text.char_indices().nth(keep).map_or(text.len(), |(at, _)| at);
    format!("{}\u{2026}", text.get(..end).unwrap_or(text))
}

/// Returns the start of a long hexadecimal name, for columns; the full one goes into the title.
pub(crate) fn short_hex(hex: &str) -> String {
    hex.get(..12).unwrap_or(hex).to_owned()
}

/// Shortens an identity of label and digest: `name@sha256:0123456789ab…`.
pub(crate) fn short_id(id: &str) -> String {
    match id.split_once("@sha256:") {
        Some((label, digest)) => format!("{label}@{}…", short_hex(digest)),
        None => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = String::new();
        VisibleHtml.write_escaped_str(&mut out, text).unwrap();
        out
    }

    #[test]
    fn markup_is_escaped_and_hidden_characters_are_named() {
        assert_eq!(escaped("<b onclick='x'>\"&"), "&lt;b onclick=&#39;x&#39;&gt;&quot;&amp;");
        assert_eq!(escaped("a\u{202e}b\u{0}c\n\td"), "a⟨U+202E⟩b⟨U+0000⟩c\n\td");
        assert_eq!(escaped("\u{e0041}"), "⟨U+E0041⟩");
        assert_eq!(escaped("naïve 日本"), "naïve 日本");
    }

    #[test]
    fn shortening_counts_characters() {
        assert_eq!(shorten("déjà", 4), "déjà");
        assert_eq!(shorten("déjà vu", 4), "déj…");
        assert_eq!(shorten("", 0), "");
    }
}
