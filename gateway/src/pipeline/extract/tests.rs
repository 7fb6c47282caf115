//! Sources and readings, each as a line; deadlines; documents made to cost much.

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::model::extractor::{JsonPointer, Pattern};
use crate::model::xpath::XPath;

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.iter().map(field).collect()
}

fn extractor(source: IdSource, reading: Reading) -> Extractor {
    Extractor::new(ExtractorSettings::new(source, reading).expect("a pair that fits"))
}

fn regex(pattern: &str, index: usize) -> Reading {
    Reading::Regex(Pattern::new(pattern, index).expect("a pattern"))
}

fn xpath(path: &str) -> Reading {
    Reading::XPath(XPath::parse(path).expect("a path"))
}

fn pointer(text: &str) -> Reading {
    Reading::JsonPointer(JsonPointer::parse(text).expect("a pointer"))
}

fn header() -> IdSource {
    IdSource::Header(HeaderName::from_static("authorization"))
}

#[track_caller]
fn check(extractor: &Extractor, input: Input<'_>, expected: Result<&str, ExtractError>) {
    let found = extractor.extract(input);
    let found = found.as_ref().map(|id| std::str::from_utf8(id.as_bytes()).expect("text")).map_err(|error| *error);
    assert_eq!(found, expected);
}

#[track_caller]
fn check_header(reading: Reading, fields: &[(&'static str, &'static str)], expected: Result<&str, ExtractError>) {
    check(&extractor(header(), reading), Input { headers: &headers(fields), query: None, body: None }, expected);
}

#[test]
fn an_id_comes_from_a_header() {
    check_header(Reading::Value, &[("authorization", "abc")], Ok("abc"));
    check_header(Reading::Value, &[], Err(ExtractError::Missing));
    check_header(Reading::Value, &[("authorization", "")], Err(ExtractError::Empty));
    check_header(Reading::Value, &[("authorization", "a"), ("authorization", "b")], Err(ExtractError::Ambiguous));
    check_header(regex("[^-]+$", 0), &[("authorization", "prefix-abc")], Ok("abc"));
    check_header(regex("[a-z]+", 1), &[("authorization", "one-two")], Ok("two"));
    check_header(regex("[a-z]+", 2), &[("authorization", "one-two")], Err(ExtractError::NoMatch));
    check_header(regex("x*", 0), &[("authorization", "abc")], Err(ExtractError::Empty));
    check_header(regex("^Bearer (?<id>.*)$", 0), &[("authorization", "Bearer t")], Ok("t"));
    check_header(regex("^Bearer(?<id>.*)$", 0), &[("authorization", "Bearer ")], Err(ExtractError::Empty));
}

#[test]
fn an_id_comes_from_a_query_or_a_cookie() {
    let none = headers(&[]);
    let query = extractor(IdSource::Query("id".to_owned()), Reading::Value);
    let of = |query| Input { headers: &none, query, body: None };
    check(&query, of(Some("x=1&id=a%20b+c")), Ok("a b c"));
    check(&query, of(Some("%69d=a")), Ok("a"));
    check(&query, of(Some("id=a&%69d=b")), Err(ExtractError::Ambiguous));
    check(&query, of(Some("id")), Err(ExtractError::Empty));
    check(&query, of(Some("id=%20")), Err(ExtractError::Empty));
    check(&query, of(None), Err(ExtractError::Missing));

    let cookie = extractor(IdSource::Cookie("sid".to_owned()), Reading::Value);
    let check_cookie = |fields: &[(&'static str, &'static str)], expected| {
        check(&cookie, Input { headers: &headers(fields), query: None, body: None }, expected);
    };
    check_cookie(&[("cookie", "a=1; sid=s=1; xsid=2")], Ok("s=1"));
    check_cookie(&[("cookie", "a=1"), ("cookie", "sid=s")], Ok("s"));
    check_cookie(&[("cookie", "sid=s"), ("cookie", "sid=t")], Err(ExtractError::Ambiguous));
    check_cookie(&[("cookie", "sid=")], Err(ExtractError::Empty));
    check_cookie(&[("cookie", "sid")], Err(ExtractError::Missing));
}

#[test]
fn an_id_comes_from_a_form() {
    let form = headers(&[("content-type", "application/x-www-form-urlencoded; charset=utf-8")]);
    let json = headers(&[("content-type", "application/json")]);
    let value = extractor(IdSource::Form("id".to_owned()), Reading::Value);
    check(&value, Input { headers: &form, query: Some("id=q"), body: Some(b"x=1&id=a%2Fb") }, Ok("a/b"));
    check(&value, Input { headers: &form, query: Some("id=q"), body: Some(b"x=1") }, Err(ExtractError::Missing));
    check(&value, Input { headers: &form, query: None, body: Some(b"id=1&id=1") }, Err(ExtractError::Ambiguous));
    check(&value, Input { headers: &form, query: None, body: None }, Err(ExtractError::Missing));
    check(&value, Input { headers: &form, query: None, body: Some(b"id=\xff") }, Err(ExtractError::NotForm));
    check(&value, Input { headers: &json, query: None, body: Some(b"id=1") }, Err(ExtractError::NotForm));
    let path = extractor(IdSource::Form("doc".to_owned()), xpath("/a/b"));
    check(&path, Input { headers: &form, query: None, body: Some(b"doc=%3Ca%3E%3Cb%3Ek%3C/b%3E%3C/a%3E") }, Ok("k"));
}

#[track_caller]
fn check_body(reading: Reading, body: &str, expected: Result<&str, ExtractError>) {
    let input = Input { headers: &HeaderMap::new(), query: None, body: Some(body.as_bytes()) };
    check(&extractor(IdSource::Body, reading), input, expected);
}

#[test]
fn an_id_comes_from_json() {
    let body = r#"{ "user": { "ids": ["a", 7, 1.5, "", null] }, "a/b": "slash" }"#;
    check_body(pointer("/user/ids/0"), body, Ok("a"));
    check_body(pointer("/user/ids/1"), body, Ok("7"));
    check_body(pointer("/a~1b"), body, Ok("slash"));
    check_body(pointer("/user/ids/2"), body, Err(ExtractError::NoMatch));
    check_body(pointer("/user/ids/3"), body, Err(ExtractError::Empty));
    check_body(pointer("/user/ids/4"), body, Err(ExtractError::NoMatch));
    check_body(pointer("/user/ids"), body, Err(ExtractError::NoMatch));
    check_body(pointer("/nobody"), body, Err(ExtractError::NoMatch));
    check_body(pointer("/a"), "<a/>", Err(ExtractError::NotJson));
    check_body(pointer("/0"), &"[".repeat(60_000), Err(ExtractError::NotJson));
    check_body(regex("[0-9]+", 0), body, Ok("7"));
    check_body(regex("[0-9]+", 0), "", Err(ExtractError::Missing));
}

#[test]
fn an_id_comes_from_xml() {
    let body = "<?xml version='1.0'?><r xmlns:n='urn:n'><object kind='x' id='1'><key>one</key></object>\
                <object kind='y' id='2'><key>t<i>w</i>o</key><n:key>ns</n:key></object><e/></r>";
    check_body(xpath("/r/object[1]/key"), body, Ok("one"));
    check_body(xpath("/r/object[2]/key[1]"), body, Ok("two"));
    check_body(xpath("/r/object[1]/key/text()"), body, Ok("one"));
    check_body(xpath("/r/object[2]/key[2]"), body, Ok("ns"));
    check_body(xpath("//key[2]"), body, Ok("ns"));
    check_body(xpath("/r/*[@kind='y']/@id"), body, Ok("2"));
    check_body(xpath("/r/*[@kind][2]/@id"), body, Ok("2"));
    check_body(xpath("//object[@id='2']/@kind"), body, Ok("y"));
    check_body(xpath("r//i"), body, Ok("w"));
    check_body(xpath("/r/e"), body, Err(ExtractError::Empty));
    check_body(xpath("/key"), body, Err(ExtractError::NoMatch));
    check_body(xpath("//object[3]"), body, Err(ExtractError::NoMatch));
    check_body(xpath("/a"), "<a>&lt;&#65;</a>", Ok("<A"));
    check_body(xpath("/a"), "<a><![CDATA[<b>]]></a>", Ok("<b>"));
}

/// Whoever reads another one of them than we do would serve one caller as another.
#[test]
fn an_id_that_a_body_holds_twice_is_refused() {
    let twice = Err(ExtractError::Ambiguous);
    for (path, body) in [
        ("//id", "<r><id>ana</id><id>ben</id></r>"),
        ("//id", "<r><id>ana</id><a><id>ana</id></a></r>"),
        ("/r/id", "<r xmlns:n='urn:n'><id>ana</id><n:id>ben</n:id></r>"),
        ("//@id", "<r id='ana'><a id='ben'/></r>"),
        ("/r/@id", "<r xmlns:n='urn:n' id='ana' n:id='ben'/>"),
        ("/r/id/text()", "<r><id>ana<b/>ben</id></r>"),
        ("//a[1]/id", "<r><a><id>ana</id></a><b><a><id>ben</id></a></b></r>"),
    ] {
        check_body(xpath(path), body, twice);
    }
    check_body(xpath("/r/id[1]"), "<r><id>ana</id><id>ben</id></r>", Ok("ana"));
    for body in [
        r#"{ "user": { "id": "ana", "id": "ben" } }"#,
        r#"{ "user": { "id": "ana", "\u0069d": "ana" } }"#,
        r#"{ "user": { "id": "ana" }, "user": { "id": "ben" } }"#,
        r#"{ "user": { "id": "ana" }, "user": null }"#,
        r#"{ "user": 1, "user": { "id": "ana" } }"#,
    ] {
        check_body(pointer("/user/id"), body, twice);
    }
    check_body(pointer("/0/id"), r#"[{ "id": "ana", "x": [], "x": {} }, { "id": "ben" }]"#, Ok("ana"));
    check_body(pointer("/00/id"), r#"[{ "id": "ana" }]"#, Err(ExtractError::NoMatch));
    check_body(pointer("/id"), r#"{ "id": "ana" } {}"#, Err(ExtractError::NotJson));
}

#[test]
fn broken_xml_and_entities_are_refused() {
    for body in [
        "",
        "{}",
        "<a>",
        "<a></b>",
        "<a/><b/>",
        "<n:a/>",
        "<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>",
        "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a>x</a>",
        "<a>&e;</a>",
    ] {
        let expected = if body.is_empty() { ExtractError::Missing } else { ExtractError::NotXml };
        check_body(xpath("/a"), body, Err(expected));
    }
}

// limit: pipeline::extract::xml::NODES_MAX
// limit: pipeline::extract::xml::ATTRIBUTES_MAX
// limit: pipeline::extract::xml::NAMESPACES_MAX
#[test]
fn a_document_has_so_many_nodes_attributes_and_namespaces() {
    let mut settings = ExtractorSettings::new(IdSource::Body, xpath("/a/b")).expect("a pair that fits");
    settings.input_bytes_max = 16 << 20;
    let large = Extractor::new(settings);
    let attributes = |count: usize| (0..count).map(|n| format!(" a{n}=''")).collect::<String>();
    // Nodes are the document, its two elements, the text in one of them, and the elements that follow.
    for (body, is_read) in [
        (format!("<a><b>x</b>{}</a>", "<c/>".repeat(100_000 - 4)), true),
        (format!("<a><b>x</b>{}</a>", "<c/>".repeat(100_000 - 3)), false),
        (format!("<a{}><b>x</b></a>", attributes(256)), true),
        (format!("<a{}><b>x</b></a>", attributes(257)), false),
        (format!("<a><b>x</b>{}</a>", "<c xmlns='u'/>".repeat(32)), true),
        (format!("<a><b>x</b>{}</a>", "<c xmlns='u'/>".repeat(33)), false),
    ] {
        let expected = if is_read { Ok("x") } else { Err(ExtractError::NotXml) };
        check(&large, Input { headers: &HeaderMap::new(), query: None, body: Some(body.as_bytes()) }, expected);
    }
}

/// Each of these took its reader or ours more than linear time, or its stack.
#[test]
fn documents_made_to_cost_much_cost_little() {
    let mut large = ExtractorSettings::new(IdSource::Body, xpath("//a//a//a//a//a[2]")).expect("a pair that fits");
    large.input_bytes_max = 16 << 20;
    let large = Extractor::new(large);
    let attributes: String = (0..100_000).map(|n| format!(" a{n}=''")).collect();
    let spaced: String = (0..100_000).map(|n| format!(" a{n}  =\n \"\"")).collect();
    let namespaces: String = (0..20_000).map(|n| format!("<a xmlns:n{n}='u'>")).collect();
    let began = std::time::Instant::now();
    for (body, expected) in [
        (format!("<a{attributes}/>"), ExtractError::NotXml),
        (format!("<a{spaced}/>"), ExtractError::NotXml),
        (format!("{namespaces}{}", "</a>".repeat(20_000)), ExtractError::NotXml),
        ("<a>".repeat(90_000) + &"</a>".repeat(90_000), ExtractError::NoMatch),
        ("<a>".repeat(500_000), ExtractError::NotXml),
        (format!("<a>{}</a>", "<a/>".repeat(500_000)), ExtractError::NotXml),
        (format!("<a>{}</a>", "=\"".repeat(4_000_000)), ExtractError::NotXml),
    ] {
        check(&large, Input { headers: &HeaderMap::new(), query: None, body: Some(body.as_bytes()) }, Err(expected));
    }
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
}

#[test]
fn input_has_a_bound() {
    let long = "x".repeat(70_000);
    check_body(regex("x", 0), &long, Err(ExtractError::TooLong));
    let query = extractor(IdSource::Query("id".to_owned()), Reading::Value);
    let text = format!("id={long}");
    check(&query, Input { headers: &HeaderMap::new(), query: Some(&text), body: None }, Err(ExtractError::TooLong));
}

#[test]
fn an_id_is_not_shown() {
    assert_eq!(format!("{:?}", Id(b"secret".to_vec())), "Id(6 bytes)");
}

#[test]
fn a_deadline_is_in_seconds_or_milliseconds() {
    let check =
        |number: i64, expected: Option<u64>| assert_eq!(Deadline::of(number).map(Deadline::ms), expected, "{number}");
    check(0, None);
    check(-1, None);
    check(i64::MIN, None);
    check(1_700_000_000, Some(1_700_000_000_000));
    check(1_700_000_000_123, Some(1_700_000_000_123));
    check(100_000_000_000, Some(100_000_000_000_000));
    check(100_000_000_001, Some(100_000_000_001));
    check(i64::MAX, Some(i64::MAX.unsigned_abs()));
}

#[test]
fn a_deadline_is_capped_from_the_plugins_answer_on() {
    let answered = 1_700_000_000_000;
    let far = Deadline::of(9_999_999_999).expect("a deadline").capped(answered, Duration::from_secs(60));
    assert_eq!((far.ms(), far.seconds()), (answered + 60_000, 1_700_000_060));
    assert!(!far.is_over(answered + 59_999));
    assert!(far.is_over(answered + 60_000));
    let near = Deadline::of(1_700_000_010).expect("a deadline").capped(answered, Duration::from_secs(60));
    assert_eq!(near.ms(), answered + 10_000);
    assert!(Deadline::of(1).expect("a deadline").is_over(answered));
    assert_eq!(Deadline::of(i64::MAX).expect("one").capped(u64::MAX, Duration::MAX).ms(), i64::MAX.unsigned_abs());
}

proptest! {
    #[test]
    fn whatever_comes_gives_an_id_or_an_error(body: Vec<u8>, query: String, path in "[/@a-c\\[\\]'=0-9()*text]{0,20}") {
        let headers = headers(&[("content-type", "application/x-www-form-urlencoded")]);
        let input = Input { headers: &headers, query: Some(&query), body: Some(&body) };
        let mut readings = vec![regex("(?s).+", 0), pointer("/a")];
        readings.extend(XPath::parse(&path).map(Reading::XPath));
        for reading in readings {
            for source in [IdSource::Body, IdSource::Form("a".to_owned())] {
                if let Ok(id) = extractor(source, reading.clone()).extract(input) {
                    prop_assert!(!id.as_bytes().trim_ascii().is_empty());
                }
            }
        }
    }
}
