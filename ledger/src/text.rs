//! Text that agents and tools wrote is hostile until shown otherwise: the one list of characters that deceive.

/// Tells whether a character shows as nothing, or changes how its neighbours show: controls, bidirectional
/// overrides, zero-width and tag characters. `U+202E` in a tool name could make `exe.txt` out of `txt.exe`. How such
/// a character is made visible is up to whoever shows the text; so are line ends and tabs, which are controls.
pub const fn is_hidden(character: char) -> bool {
    match character {
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' => true,
        // Soft hyphen, joiners, Arabic letter mark, fillers, invisible vowels, Mongolian selectors.
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' => true,
        '\u{180b}'..='\u{180f}' | '\u{3164}' | '\u{ffa0}' => true,
        // Zero width, direction marks, line separators, embeddings, overrides, isolates.
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}' | '\u{1d173}'..='\u{1d17a}' => true,
        // Tags, which carry hidden ASCII.
        '\u{e0000}'..='\u{e0fff}' => true,
        _ => false,
    }
}
