//! Guards in the code, and the code without them.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A place of the code that is the guard, or a part of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The file, from the folder of the workspace on.
    pub file: String,
    /// An expression as it stands there, and nowhere else in the file.
    pub code: String,
    /// The expression that stands there instead when the guard is out.
    pub instead: String,
}

/// The text of a file in which each of these guards can be taken out: `taken_out` is the function that is asked whether the
/// guard of a name is.
///
/// # Errors
/// A place is not in the text, is there several times, or is within another one.
pub fn with_guards_to_take_out(text: &str, places: &[(String, &Place)], taken_out: &str) -> Result<String, String> {
    // By where they begin: several guards may have one place.
    let mut found: BTreeMap<usize, Vec<&(String, &Place)>> = BTreeMap::new();
    for guard in places {
        let (name, place) = guard;
        let mut begins = text.match_indices(&place.code).map(|(at, _)| at);
        let (Some(at), None) = (begins.next(), begins.next()) else {
            return Err(format!("{name}: {} does not have exactly once: {}", place.file, place.code));
        };
        found.entry(at).or_default().push(guard);
    }
    let (mut out, mut rest) = (String::new(), 0);
    for (at, guards) in found {
        // In parentheses: it may be a part of a larger expression.
        let (mut ways, mut code) = ("(".to_owned(), "");
        for (name, place) in guards {
            ways += &format!("if {taken_out}({name:?}) {{ {} }} else ", place.instead);
            if !code.is_empty() && code != place.code {
                return Err(format!("{name}: another guard has another place there: {}", place.code));
            }
            code = &place.code;
        }
        let before = text.get(rest..at).ok_or_else(|| format!("it is within another place: {code}"))?;
        out += &format!("{before}{ways}{{ {code} }})");
        rest = at + code.len();
    }
    out += text.get(rest..).unwrap_or_default();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(places: &[(&str, &str, &str)], expected: Result<&str, &str>) {
        let place = |code: &str, instead: &str| Place {
            file: "f.rs".to_owned(),
            code: code.to_owned(),
            instead: instead.to_owned(),
        };
        let places: Vec<_> = places.iter().map(|(name, code, instead)| (*name, place(code, instead))).collect();
        let places: Vec<_> = places.iter().map(|(name, place)| ((*name).to_owned(), place)).collect();
        let found = with_guards_to_take_out("if a > max && b { c(a) }", &places, "out");
        assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned));
    }

    #[test]
    fn a_place_asks_whether_its_guard_is_out() {
        check(&[], Ok("if a > max && b { c(a) }"));
        check(
            &[("one 1", "c(a)", "()"), ("two 1", "a > max", "false"), ("one 2", "a > max", "true")],
            Ok(
                r#"if (if out("two 1") { false } else if out("one 2") { true } else { a > max }) && b { (if out("one 1") { () } else { c(a) }) }"#,
            ),
        );
        check(&[("one 1", "d", "()")], Err("one 1: f.rs does not have exactly once: d"));
        check(&[("one 1", "a", "()")], Err("one 1: f.rs does not have exactly once: a"));
        check(
            &[("one 1", "a > max", "true"), ("two 1", "max && b", "true")],
            Err("it is within another place: max && b"),
        );
    }
}
