//! Patterns of paths in access rights: regular expressions that begin where the path begins.

use regex::bytes::{Regex, RegexBuilder};

/// Compiles a pattern, in time and memory that are bounded. It matches in time linear in the path.
///
/// `{id}` stands for one segment, as in path templates and in Tyk's newer matching; `{2,3}` stays a repetition. Canonical
/// paths are ASCII, so classes such as `\w` are too, which keeps them small.
///
/// # Errors
/// It is no regular expression, or is too large once compiled.
pub fn compile(text: &str) -> Result<Regex, regex::Error> {
    let build = |text: &str| {
        let mut builder = RegexBuilder::new(text);
        builder.unicode(false).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build()
    };
    let body = with_segments(text.strip_prefix('^').unwrap_or(text));
    // By itself first: `a)|(b` would close the group and match anywhere.
    build(&body)?;
    build(&format!("^(?:{body})"))
}

/// Whether a text stands for itself.
pub fn is_plain(text: &str) -> bool {
    !text.contains(['\\', '.', '+', '*', '?', '(', ')', '|', '[', ']', '{', '}', '^', '$'])
}

fn with_segments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let name = after.split_once('}').filter(|(name, _)| is_parameter(before, name));
        rest = if let Some((_, after)) = name {
            out.push_str("[^/]+");
            after
        } else {
            out.push('{');
            after
        };
    }
    out.push_str(rest);
    out
}

fn is_parameter(before: &str, name: &str) -> bool {
    // `\p{…}`, `\x{…}`
    let is_escape = before.trim_end_matches(|c: char| c.is_ascii_alphabetic()).ends_with('\\');
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && !is_escape && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// Fifty times what a usual one takes.
const COMPILED_BYTES_MAX: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_become_segments() {
        let check = |text: &str, expected: &str| assert_eq!(with_segments(text), expected);
        check("/a/{id}/b", "/a/[^/]+/b");
        check("/a{2,3}/{user-id}", "/a{2,3}/[^/]+");
        check(r"/\x{41}/{", r"/\x{41}/{");
        check("/a", "/a");
    }

    #[test]
    fn a_pattern_begins_where_the_path_begins() {
        let check = |text: &str, path: &str, expected: bool| {
            assert_eq!(compile(text).expect("a pattern").is_match(path.as_bytes()), expected, "{text} {path}");
        };
        check("/a|/b", "/b", true);
        check("/a|/b", "/x/b", false);
        check("^/a", "/a/b", true);
        for wrong in ["(", "/a)|(?:b", "(?=a)", "(a{1000}){1000}"] {
            assert!(compile(wrong).is_err(), "{wrong}");
        }
    }
}
