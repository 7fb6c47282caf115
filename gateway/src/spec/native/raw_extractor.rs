//! The ID extractor as the configuration file has it (`id_extractor` below `auth`), and from there to the model.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::report::{Place, Report};
use crate::model::extractor::{ExtractorSettings, IdSource, JsonPointer, Pattern, Reading};
use crate::model::xpath::XPath;

/// Finds the caller's ID in the request: while the session that the plugin gave for it is good, the plugin is not asked.
/// The ID must be the credential itself: whoever sends it is taken for its owner.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IdExtractor {
    /// Where the ID stands.
    pub(super) from: From,
    /// The name of the header field, form field, query parameter or cookie. Default for headers: `authorization`.
    pub(super) name: Option<String>,
    /// How the ID is read from there.
    #[serde(default)]
    pub(super) with: With,
    /// With `with: regex`: the expression. Its match is the ID, or its group where one is named `id`.
    pub(super) regex: Option<String>,
    /// With `with: regex`: which match counts; 0 is the first.
    #[schemars(range(max = 100))]
    pub(super) regex_match_index: Option<usize>,
    /// With `with: xpath`: the path, such as `//user/@id`: names, `*`, `[2]`, `[@a='x']`, at the end `@a` or `text()`.
    pub(super) xpath: Option<String>,
    /// With `with: json_pointer`: the pointer, such as `/user/id`.
    pub(super) json_pointer: Option<String>,
    /// Longer input is refused.
    #[serde(default = "input_bytes_max")]
    #[schemars(range(min = 1, max = 16_777_216))]
    pub(super) input_bytes_max: usize,
    /// How long a session is used without asking the plugin again, at most, whatever the session's own deadline says.
    #[serde(default = "deadline_max_ms")]
    #[schemars(range(min = 1, max = 2_592_000_000_u64))]
    pub(super) deadline_max_ms: u64,
    /// How long a refusal of the plugin is remembered. 0 remembers none.
    #[serde(default = "refusal_life_ms")]
    #[schemars(range(max = 3_600_000))]
    pub(super) refusal_life_ms: u64,
    /// Refusals that are remembered at one time; the oldest goes first.
    #[serde(default = "refusals_max")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) refusals_max: usize,
    /// IDs that the plugin is asked about at one time, over all cores. Above it requests are refused with 503.
    #[serde(default = "asked_max")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) asked_max: usize,
    /// Requests that wait for the answer about one ID, at one time. Above it requests are refused with 503.
    #[serde(default = "waiting_max")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) waiting_max: usize,
}

const fn input_bytes_max() -> usize {
    65_536
}

const fn deadline_max_ms() -> u64 {
    3_600_000
}

const fn refusal_life_ms() -> u64 {
    10_000
}

const fn refusals_max() -> usize {
    10_000
}

const fn asked_max() -> usize {
    10_000
}

const fn waiting_max() -> usize {
    10_000
}

/// Where the ID stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum From {
    /// In a header field.
    Header,
    /// In a field of a form in the body.
    Form,
    /// In a query parameter.
    Query,
    /// In a cookie.
    Cookie,
    /// In the body.
    Body,
}

/// How the ID is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum With {
    /// The whole value.
    #[default]
    Value,
    /// A match of a regular expression.
    Regex,
    /// A node of an XML document. For `body` and `form`.
    Xpath,
    /// A value of a JSON document. For `body` and `form`.
    JsonPointer,
}

/// Converts an extractor; `None` where it has a problem.
pub(super) fn convert(raw: &IdExtractor, place: &Place, report: &mut Report) -> Option<ExtractorSettings> {
    let source = source(raw, place, report);
    let reading = reading(raw, place, report);
    let has_unused = has_unused(raw, place, report);
    let mut settings = ExtractorSettings::new(source?, reading?)
        .map_err(|mismatch| report.error(&place.key("with"), mismatch.to_string(), mismatch.hint()))
        .ok()?;
    settings.input_bytes_max = raw.input_bytes_max;
    settings.deadline_max = Duration::from_millis(raw.deadline_max_ms);
    settings.refusal_life = Duration::from_millis(raw.refusal_life_ms);
    settings.refusals_max = raw.refusals_max;
    settings.asked_max = raw.asked_max;
    settings.waiting_max = raw.waiting_max;
    (!has_unused).then_some(settings)
}

fn source(raw: &IdExtractor, place: &Place, report: &mut Report) -> Option<IdSource> {
    let name_place = place.key("name");
    let name = match (raw.from, raw.name.as_deref()) {
        (From::Body, None) => return Some(IdSource::Body),
        (From::Body, Some(_)) => {
            report.error(&name_place, "is not used with `from: body`", "remove it");
            return None;
        }
        (From::Header, None) => "authorization",
        (_, None) => {
            report.error(place, "`name` is missing", "the form field, query parameter or cookie that holds the ID");
            return None;
        }
        (_, Some("")) => {
            report.error(&name_place, "is empty", "");
            return None;
        }
        (_, Some(name)) => name,
    };
    match raw.from {
        From::Header => http::HeaderName::try_from(name)
            .map_err(|_| report.invalid(&name_place, name, "the name of a header field", "", "such as `authorization`"))
            .map(IdSource::Header)
            .ok(),
        From::Query => Some(IdSource::Query(name.to_owned())),
        From::Form => Some(IdSource::Form(name.to_owned())),
        From::Cookie if name.contains(['=', ';', ' ', '\t', ',']) => {
            report.invalid(&name_place, name, "the name of a cookie", "", "such as `sid`");
            None
        }
        From::Cookie => Some(IdSource::Cookie(name.to_owned())),
        From::Body => None,
    }
}

fn reading(raw: &IdExtractor, place: &Place, report: &mut Report) -> Option<Reading> {
    let given = |key: &str, value: &Option<String>, report: &mut Report| {
        if value.is_none() {
            report.error(place, format!("`{key}` is missing"), format!("`with: {key}` needs it"));
        }
        value.clone()
    };
    match raw.with {
        With::Value => Some(Reading::Value),
        With::Regex => {
            let text = given("regex", &raw.regex, report)?;
            if text.is_empty() {
                report.error(&place.key("regex"), "is empty: its match is never an ID", REGEX_HINT);
                return None;
            }
            let pattern = Pattern::new(&text, raw.regex_match_index.unwrap_or_default());
            pattern
                .map_err(|e| report.invalid(&place.key("regex"), &text, "a regular expression", e, REGEX_HINT))
                .map(Reading::Regex)
                .ok()
        }
        With::Xpath => {
            let text = given("xpath", &raw.xpath, report)?;
            XPath::parse(&text)
                .map_err(|e| report.invalid(&place.key("xpath"), &text, "a path that is supported", e, XPATH_HINT))
                .map(Reading::XPath)
                .ok()
        }
        With::JsonPointer => {
            let text = given("json_pointer", &raw.json_pointer, report)?;
            JsonPointer::parse(&text)
                .map_err(|e| {
                    report.invalid(&place.key("json_pointer"), &text, "a JSON pointer", e, "such as `/user/id`")
                })
                .map(Reading::JsonPointer)
                .ok()
        }
    }
}

fn has_unused(raw: &IdExtractor, place: &Place, report: &mut Report) -> bool {
    let mut found = false;
    for (key, is_there, with, word) in [
        ("regex", raw.regex.is_some(), With::Regex, "regex"),
        ("regex_match_index", raw.regex_match_index.is_some(), With::Regex, "regex"),
        ("xpath", raw.xpath.is_some(), With::Xpath, "xpath"),
        ("json_pointer", raw.json_pointer.is_some(), With::JsonPointer, "json_pointer"),
    ] {
        if is_there && raw.with != with {
            report.error(&place.key(key), "is not used", format!("it belongs to `with: {word}`"));
            found = true;
        }
    }
    found
}

const REGEX_HINT: &str = "the syntax is that of RE2: no look-around, no back-references";
const XPATH_HINT: &str = "write `/a/b`, `//b`, `*`, `[2]`, `[@kind='x']`, and `@id` or `text()` at the end";

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::report::Source;
    use super::super::shape::Shape;
    use super::super::validate::validate;
    use super::*;

    /// The settings, or the problems as `path: message | hint`.
    fn read(yaml: &str) -> Result<ExtractorSettings, String> {
        let value = super::super::text::parse(std::path::Path::new("x.yaml"), yaml).expect("YAML");
        let source = Source { file: "x.yaml".into(), folder: "/".into(), ..Source::default() };
        let place = Place::root(Rc::new(source));
        let mut report = Report::default();
        validate(&Shape::of::<IdExtractor>(), &value, &place, &mut report);
        let converted = if report.has_errors() {
            None
        } else {
            convert(&serde_json::from_value(value).expect("the right shape"), &place, &mut report)
        };
        assert_eq!(converted.is_none(), report.has_errors());
        let problems = report.into_problems();
        let line = |p: &crate::spec::Problem| format!("{}: {} | {}", p.path, p.message, p.hint);
        converted.ok_or_else(|| problems.iter().map(line).collect::<Vec<_>>().join("\n"))
    }

    #[track_caller]
    fn check(yaml: &str, expected: &str) {
        let found = read(yaml).expect_err("a problem");
        assert!(found.contains(expected), "{yaml}\nexpected {expected}\nfound {found}");
    }

    #[test]
    fn every_pair_that_can_work_is_read() {
        for yaml in [
            "from: header",
            "{ from: header, name: x-key, with: regex, regex: '[^-]+$', regex_match_index: 1 }",
            "{ from: query, name: id }",
            "{ from: cookie, name: sid, with: regex, regex: '^(?<id>[0-9]+)' }",
            "{ from: form, name: doc, with: xpath, xpath: '//object/key' }",
            "{ from: form, name: id }",
            "{ from: body, with: xpath, xpath: '//object/key' }",
            "{ from: body, with: json_pointer, json_pointer: /user/id }",
            "{ from: body, with: regex, regex: 'id=([a-z]+)' }",
        ] {
            if let Err(problems) = read(yaml) {
                panic!("{yaml}: {problems}");
            }
        }
        let settings =
            read("{ from: header, input_bytes_max: 10, deadline_max_ms: 20, refusal_life_ms: 0, refusals_max: 5 }")
                .expect("settings");
        assert_eq!(settings.source(), &IdSource::Header(http::header::AUTHORIZATION));
        assert_eq!((settings.input_bytes_max, settings.refusals_max), (10, 5));
        assert_eq!((settings.deadline_max, settings.refusal_life), (Duration::from_millis(20), Duration::ZERO));
    }

    #[test]
    fn the_defaults_are_those_of_the_model() {
        let read = read("from: header").expect("settings");
        let model = ExtractorSettings::new(IdSource::Body, Reading::XPath(XPath::parse("/a").expect("a path")));
        let limits = |s: &ExtractorSettings| {
            (s.input_bytes_max, s.deadline_max, s.refusal_life, s.refusals_max, s.asked_max, s.waiting_max)
        };
        assert_eq!(limits(&read), limits(&model.expect("settings")));
    }

    #[test]
    fn pairs_that_cannot_work_are_refused() {
        check("from: body", "with: the value of a whole body is no ID | read a part of it");
        check("{ from: header, with: xpath, xpath: /a }", "with: a header holds no document | take `with: value`");
        check(
            "{ from: query, name: a, with: json_pointer, json_pointer: /a }",
            "with: a query parameter holds no document",
        );
        check("{ from: cookie, name: a, with: xpath, xpath: /a }", "with: a cookie holds no document");
    }

    #[test]
    fn what_is_missing_or_too_much_is_told() {
        check("from: query", ": `name` is missing | the form field");
        check("{ from: header, name: '' }", "name: is empty");
        check("{ from: header, name: 'a b' }", "name: `a b` is not the name of a header field");
        check("{ from: cookie, name: 'a=b' }", "name: `a=b` is not the name of a cookie");
        check("{ from: body, name: a, with: regex, regex: a }", "name: is not used with `from: body`");
        check("{ from: header, with: regex, regex: '' }", "regex: is empty: its match is never an ID");
        check("{ from: header, with: regex }", ": `regex` is missing | `with: regex` needs it");
        check("{ from: header, regex: a }", "regex: is not used | it belongs to `with: regex`");
        check("{ from: header, regex_match_index: 1 }", "regex_match_index: is not used");
        check("{ from: header, with: regex, regex: '(?=a)' }", "regex: `(?=a)` is not a regular expression");
        check(
            "{ from: body, with: xpath, xpath: '/a/..' }",
            "xpath: `/a/..` is not a path that is supported: `..` is not supported",
        );
        check("{ from: body, with: json_pointer, json_pointer: a }", "json_pointer: `a` is not a JSON pointer");
        check("{ from: headr }", "from: `headr` is not known here | did you mean `header`?");
        check("{ from: header, with: regex, regex: a, regex_match_index: 101 }", "out of bounds");
        check("{ from: header, regx: a }", "regx: unknown key | did you mean `regex`?");
        check("{ with: value }", "`from` is missing");
    }

    #[test]
    fn all_problems_come_at_once() {
        let found = read("{ from: query, with: regex, regex: '(', xpath: /a }").expect_err("problems");
        assert_eq!(found.lines().filter(|line| line.contains(" | ")).count(), 3, "{found}");
    }
}
