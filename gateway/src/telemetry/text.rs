//! Strangers' text made safe to show: in a log, an error, a terminal.
//!
//! What could end a line, move a cursor, hide letters or turn them around is written as an escape.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// The text with everything that is not plainly visible escaped, cut to `bytes_max` bytes and a note of what was cut.
///
/// A backslash is doubled, so that an escape cannot be forged. Plain text is borrowed.
pub fn escaped(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max && !text.chars().any(needs_escape) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len().min(bytes_max) + CUT_NOTE_BYTES);
    for (at, character) in text.char_indices() {
        let before = out.len();
        push(&mut out, character);
        if out.len() > bytes_max {
            out.truncate(before);
            // Writing to a `String` cannot fail.
            let _ = write!(out, "…(+{} bytes)", text.len() - at);
            break;
        }
    }
    Cow::Owned(out)
}

/// The same for bytes, which need not be text.
pub fn escaped_bytes(bytes: &[u8], bytes_max: usize) -> String {
    escaped(&String::from_utf8_lossy(bytes), bytes_max).into_owned()
}

/// Whether all of it is plainly visible, and without a backslash: [`escaped`] changes nothing of it.
pub fn is_plain(text: &str) -> bool {
    !text.chars().any(needs_escape)
}

/// JSON with what is hidden inside its strings written as JSON's own escapes.
pub fn json_escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for character in json.chars() {
        if character == '\\' || !needs_escape(character) {
            out.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

/// Passes text on with everything escaped that is not plainly visible. Backslashes stay: what strangers wrote may have been
/// [`escaped`] before.
#[derive(Debug)]
pub struct Visible<W>(pub W);

impl<W: Write> Write for Visible<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let is_hidden = |character: char| character != '\\' && needs_escape(character);
        let mut escape = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(is_hidden) {
            let (plain, from_hidden) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut characters = from_hidden.chars();
            if let Some(hidden) = characters.next() {
                escape.clear();
                push(&mut escape, hidden);
                self.0.write_str(&escape)?;
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

fn push(out: &mut String, character: char) {
    match character {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        _ if needs_escape(character) => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
        }
        _ => out.push(character),
    }
}

const fn needs_escape(character: char) -> bool {
    matches!(
        character,
        '\\' | '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
            // Soft hyphen, Arabic letter mark, Mongolian vowel separator.
            | '\u{ad}' | '\u{61c}' | '\u{180e}'
            // Zero-width characters and marks of direction; line and paragraph separators; embeddings and overrides.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            // Invisible operators and isolates.
            | '\u{2060}'..='\u{206f}'
            // Byte order mark, interlinear annotations.
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            // Tags.
            | '\u{e0000}'..='\u{e007f}'
    )
}

const CUT_NOTE_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(escaped(text, 100), expected);
    }

    #[test]
    fn what_is_not_visible_is_escaped() {
        check("plain, ä, 漢字, 🦀", "plain, ä, 漢字, 🦀");
        check("a\nb\r\tc", "a\\nb\\r\\tc");
        check("a\\nb", "a\\\\nb");
        check("\u{1b}[31mred", "\\u{1b}[31mred");
        check("\u{202e}cod.exe", "\\u{202e}cod.exe");
        check("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}");
        check("\u{9b}0m\u{2028}", "\\u{9b}0m\\u{2028}");
    }

    #[test]
    fn a_long_text_is_cut_with_a_note() {
        assert_eq!(escaped("aaaaaaaaaa", 4), "aaaa…(+6 bytes)");
        assert_eq!(escaped("ää", 3), "ä…(+2 bytes)");
        assert_eq!(escaped("\n\n", 3), "\\n…(+1 bytes)");
    }

    #[test]
    fn what_passes_is_visible_and_escapes_stay_as_they_are() {
        let mut out = String::new();
        Visible(&mut out).write_str("a\nb\\n\u{1b}[31m\u{9b}\u{202e}ä").expect("a string takes all");
        assert_eq!(out, "a\\nb\\n\\u{1b}[31m\\u{9b}\\u{202e}ä");
    }

    proptest::proptest! {
        #[test]
        fn no_text_comes_out_with_anything_hidden_or_too_long(text: String, bytes_max in 0usize..64) {
            let out = escaped(&text, bytes_max);
            let is_hidden = |c: char| c != '\\' && needs_escape(c);
            proptest::prop_assert!(!out.chars().any(is_hidden));
            proptest::prop_assert!(out.len() <= bytes_max + CUT_NOTE_BYTES);
        }
    }
}
