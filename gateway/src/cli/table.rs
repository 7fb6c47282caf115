//! Sessions and policies for people: rows of names and values, tables, times as spans.

use std::io::{self, Write};

use serde_json::Value;

use crate::telemetry::text::escaped;

/// Writes columns of equal width, the heads first. Cells come from strangers and are made safe to show.
pub(super) fn table(out: &mut dyn Write, heads: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let safe = |cell: &String| escaped(cell, CELL_BYTES_MAX).into_owned();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(safe).collect()).collect();
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let mut widths = vec![0; heads.len()];
    for row in std::iter::once(&heads).chain(&rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in std::iter::once(&heads).chain(&rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Writes names and values, without those that are empty.
pub(super) fn rows(out: &mut dyn Write, rows: &[(&str, String)]) -> io::Result<()> {
    let told = rows.iter().filter(|(_, value)| !value.is_empty());
    let width = told.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in told {
        writeln!(out, "{name:<width$}  {}", escaped(value, CELL_BYTES_MAX))?;
    }
    Ok(())
}

pub(super) fn text(of: &Value, name: &str) -> String {
    of.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

pub(super) fn texts(of: &Value, name: &str) -> String {
    let texts = of.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    texts.collect::<Vec<_>>().join(", ")
}

pub(super) fn integer(of: &Value, name: &str) -> i64 {
    of.get(name).and_then(Value::as_i64).unwrap_or(0)
}

/// `1000 in 1 s`.
pub(super) fn rate(of: &Value) -> String {
    let number = |name| of.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    if number("rate") <= 0.0 { String::new() } else { format!("{} in {} s", number("rate"), number("per")) }
}

/// `10, renewed every 1 h`; what is left where `now` says that the counter is known.
pub(super) fn quota(of: &Value, now: Option<i64>) -> String {
    let max = integer(of, "quota_max");
    if max <= 0 {
        return String::new();
    }
    let renewal = integer(of, "quota_renewal_rate");
    let renewed = if renewal > 0 { format!(", renewed every {}", span(renewal)) } else { ", never renewed".to_owned() };
    match now {
        None => format!("{max}{renewed}"),
        Some(now) => {
            let renews = integer(of, "quota_renews").saturating_sub(now);
            let next = if renewal > 0 && renews > 0 { format!(", next in {}", span(renews)) } else { String::new() };
            format!("{} of {max} left{renewed}{next}", integer(of, "quota_remaining"))
        }
    }
}

/// A time in seconds since 1970 as people read it from now.
pub(super) fn when(at: i64, now: i64) -> String {
    match at.saturating_sub(now) {
        _ if at <= 0 => "never".to_owned(),
        left if left > 0 => format!("in {}", span(left)),
        passed => format!("{} ago", span(passed.saturating_neg())),
    }
}

/// A span of seconds in its two largest units.
pub(super) fn span(seconds: i64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut rest = seconds.max(0);
    let mut parts = Vec::new();
    for (size, unit) in units {
        if rest >= size && parts.len() < 2 {
            parts.push(format!("{} {unit}", rest / size));
        }
        rest %= size;
    }
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

/// Seconds of `90`, `90s`, `15m`, `12h`, `30d`.
pub(super) fn seconds(text: &str) -> Result<i64, String> {
    let (number, size) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
        None => (text, 1),
        Some(number) => match text.chars().last() {
            Some('m') => (number, 60),
            Some('h') => (number, 3_600),
            Some('d') => (number, 86_400),
            _ => (number, 1),
        },
    };
    let number: i64 = number.parse().map_err(|_| "not a time such as `90`, `15m`, `12h`, `30d`".to_owned())?;
    number.checked_mul(size).filter(|n| (0..=SECONDS_MAX).contains(n)).ok_or_else(|| "too long".to_owned())
}

/// Longer than anybody plans.
const SECONDS_MAX: i64 = 10_000 * 86_400;
const CELL_BYTES_MAX: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        for (text, expected, shown) in [
            ("0", 0, "0 s"),
            ("90", 90, "1 min 30 s"),
            ("15m", 900, "15 min"),
            ("36h", 129_600, "1 d 12 h"),
            ("30d", 2_592_000, "30 d"),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
            assert_eq!(span(expected), shown);
        }
        for text in ["", "d", "1.5h", "-1", "1y", "99999999d", "9999999999999999999"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert_eq!((when(0, 5), when(65, 5), when(5, 65)), ("never".into(), "in 1 min".into(), "1 min ago".into()));
    }

    #[test]
    fn a_table_has_columns_and_hides_nothing() {
        let mut out = Vec::new();
        let rows = [vec!["a".to_owned(), "gold".to_owned()], vec!["long".to_owned(), "x\u{1b}[31m".to_owned()]];
        table(&mut out, &["id", "name"], &rows).expect("memory");
        assert_eq!(String::from_utf8(out).expect("text"), "id    name\na     gold\nlong  x\\u{1b}[31m\n");
    }
}
