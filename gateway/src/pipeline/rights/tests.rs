//! Each rule of rights and limits as a line.

use proptest::prelude::*;

use super::*;
use crate::model::session::{AllowedUrl, EndpointLimit, Quota};

fn rate(requests: f64, per_seconds: f64) -> Rate {
    Rate { requests, per_seconds, ..Rate::default() }
}

fn limit(requests: f64, per_seconds: f64) -> Option<RateLimit> {
    RateLimit::of(&rate(requests, per_seconds)).expect("a rate")
}

fn quota(max: i64) -> Quota {
    Quota { max, ..Quota::default() }
}

fn right(api: &str) -> AccessRight {
    AccessRight { api_id: api.to_owned(), ..AccessRight::default() }
}

fn session(rights: Vec<AccessRight>) -> Session {
    Session { access_rights: rights, ..Session::default() }
}

fn rights(session: &Session) -> Rights {
    Rights::of(session, &Patterns::default())
}

fn with_urls(urls: &[(&str, &[&str])]) -> Rights {
    let url = |(url, methods): &(&str, &[&str])| AllowedUrl {
        url: (*url).to_owned(),
        methods: methods.iter().map(|&method| method.to_owned()).collect(),
    };
    let allowed_urls = urls.iter().map(url).collect();
    rights(&session(vec![AccessRight { allowed_urls, ..right("a") }]))
}

/// A call of API `a`, which listens on `/a/`.
fn call<'r>(method: &'r str, path: &'r str) -> Call<'r> {
    let stripped = path.strip_prefix("/a").filter(|rest| rest.starts_with('/')).unwrap_or("/");
    Call { api: "a", version: None, method, path, stripped }
}

#[track_caller]
fn check_url(url: &str, path: &str, expected: bool) {
    let found = with_urls(&[(url, &["GET"])]).check(&call("GET", path));
    assert_eq!(found, if expected { Ok(()) } else { Err(Denied::Path) }, "{url} {path}");
}

#[test]
fn rights_name_apis_and_none_means_all() {
    let some = rights(&session(vec![right("a"), right("b")]));
    let of = |api| Call { api, ..call("GET", "/x") };
    assert_eq!((some.check(&of("b")), some.check(&of("c"))), (Ok(()), Err(Denied::Api)));
    assert_eq!(some.limits_for(&of("c")), Err(Denied::Api));
    assert_eq!(rights(&session(Vec::new())).check(&of("c")), Ok(()));
}

#[test]
fn versions_are_checked_where_both_have_some() {
    let some = AccessRight { versions: vec!["v1".to_owned(), "v2".to_owned()], ..right("a") };
    let check = |right: AccessRight, version, expected| {
        let call = Call { version, ..call("GET", "/") };
        assert_eq!(rights(&session(vec![right])).check(&call), expected, "{version:?}");
    };
    check(some.clone(), Some("v2"), Ok(()));
    check(some.clone(), Some("v3"), Err(Denied::Version));
    check(some.clone(), Some(""), Err(Denied::Version));
    check(some, None, Ok(()));
    check(right("a"), Some("v3"), Ok(()));
}

#[test]
fn a_path_matches_from_its_beginning() {
    check_url("/public", "/a/public", true);
    check_url("/public", "/a/public/1", true);
    check_url("/public", "/a/private/public", false);
    check_url("^/public", "/a/public", true);
    check_url("/public$", "/a/public/1", false);
    check_url("/users/[0-9]+$", "/a/users/12", true);
    check_url("/users/[0-9]+$", "/a/x/users/12", false);
    check_url("/users/{id}$", "/a/users/ann", true);
    check_url("/users/{id}$", "/a/users/ann/keys", false);
    check_url("/x|/y", "/a/y", true);
    check_url("/x|/y", "/a/z/y", false);
    check_url(".*/public", "/a/private/public", true);
    check_url("", "/a/anything", true);
}

#[test]
fn a_path_may_be_written_with_the_listen_path() {
    check_url("/a/public", "/a/public", true);
    check_url("/a/[a-z]+$", "/a/public", true);
    check_url("/b/public", "/a/public", false);
}

#[test]
fn methods_are_exact() {
    let some = with_urls(&[("/x", &["GET", "POST"]), ("/y", &[])]);
    for (method, path, expected) in [
        ("GET", "/a/x", Ok(())),
        ("POST", "/a/x", Ok(())),
        ("HEAD", "/a/x", Err(Denied::Path)),
        ("get", "/a/x", Err(Denied::Path)),
        ("GET", "/a/y", Err(Denied::Path)),
    ] {
        assert_eq!(some.check(&call(method, path)), expected, "{method} {path}");
    }
}

#[test]
fn what_cannot_be_used_grants_nothing() {
    for url in ["(", r"(a)\1", "(?=a)", "/b)|(?:x", "(a{1000}){1000}"] {
        let some = with_urls(&[(url, &["GET"])]);
        assert_eq!(some.check(&call("GET", "/a/x")), Err(Denied::Path), "{url}");
        assert_eq!(some.problems().len(), 1);
    }
    let many: Vec<(&str, &[&str])> = (0..1_000).map(|_| ("/x", &["GET"][..])).chain([("/y", &["GET"][..])]).collect();
    let some = with_urls(&many);
    assert_eq!(some.check(&call("GET", "/a/x")), Ok(()));
    assert_eq!(some.check(&call("GET", "/a/y")), Err(Denied::Path));
    assert_eq!(some.problems(), ["path `/y` is one too many"]);
}

fn limits(session: &Session, method: &str, path: &str) -> Limits {
    rights(session).limits_for(&call(method, path)).expect("limits")
}

#[test]
fn the_narrower_limit_counts() {
    let endpoint = |path: &str, rate| EndpointLimit { path: path.to_owned(), method: "GET".to_owned(), rate };
    let own = AccessRight {
        rate: Some(rate(20.0, 1.0)),
        quota: Some(quota(200)),
        allowance_scope: "scope".to_owned(),
        endpoints: vec![
            endpoint("/x", rate(30.0, 1.0)),
            endpoint("/free", rate(-1.0, 0.0)),
            endpoint("/x/y", rate(9.0, 1.0)),
        ],
        ..right("a")
    };
    let session = |rights| Session { rate: rate(10.0, 1.0), quota: quota(100), ..session(rights) };

    let of_session = limits(&session(vec![right("a")]), "GET", "/a/x");
    assert_eq!((of_session.rate, of_session.quota), (limit(10.0, 1.0), QuotaLimit::of(&quota(100))));
    assert_eq!((of_session.endpoint_rate, &*of_session.scope), (None, ""));
    assert_eq!(limits(&session(Vec::new()), "GET", "/a/x").rate, limit(10.0, 1.0));

    let of_right = limits(&session(vec![own.clone()]), "POST", "/a/x");
    assert_eq!((of_right.rate, of_right.quota), (limit(20.0, 1.0), QuotaLimit::of(&quota(200))));
    assert_eq!((of_right.endpoint_rate, &*of_right.scope), (None, "scope"));

    let of_endpoint = limits(&session(vec![own.clone()]), "GET", "/a/x/y");
    let expected = EndpointRate { name: "GET /x".into(), limit: limit(30.0, 1.0).expect("a limit") };
    assert_eq!((of_endpoint.rate, of_endpoint.endpoint_rate), (None, Some(expected)));
    assert_eq!(of_endpoint.quota, QuotaLimit::of(&quota(200)));

    let free = limits(&session(vec![own]), "GET", "/a/free");
    assert_eq!((free.rate, free.endpoint_rate), (None, None));
}

#[test]
fn a_limit_that_is_not_set_is_the_sessions_and_a_negative_one_is_none() {
    let session = |own: AccessRight| Session { rate: rate(10.0, 1.0), quota: quota(100), ..session(vec![own]) };
    let quota_only = limits(&session(AccessRight { quota: Some(quota(5)), ..right("a") }), "GET", "/a/x");
    assert_eq!((quota_only.rate, quota_only.quota), (limit(10.0, 1.0), QuotaLimit::of(&quota(5))));
    let unlimited = AccessRight { rate: Some(rate(-1.0, 0.0)), quota: Some(quota(-1)), ..right("a") };
    let unlimited = limits(&session(unlimited), "GET", "/a/x");
    assert_eq!((unlimited.rate, unlimited.quota), (None, None));
}

#[test]
fn a_rate_that_cannot_be_counted_denies_where_it_counts() {
    let broken = AccessRight { rate: Some(rate(1.0, 0.0)), ..right("a") };
    let some = rights(&session(vec![broken, right("b")]));
    assert_eq!(some.limits_for(&call("GET", "/a/x")), Err(Denied::RateInvalid));
    assert!(some.limits_for(&Call { api: "b", ..call("GET", "/b") }).is_ok());
}

#[test]
fn an_endpoint_that_cannot_be_limited_denies_the_api() {
    let endpoint = |method: &str, path: &str| EndpointLimit {
        path: path.to_owned(),
        method: method.to_owned(),
        rate: rate(1.0, 60.0),
    };
    let broken = AccessRight { endpoints: vec![endpoint("GET", "/x("), endpoint("GET", "/y")], ..right("a") };
    let some = rights(&session(vec![broken]));
    assert_eq!(some.limits_for(&call("GET", "/a/y")), Err(Denied::RateInvalid));
    assert_eq!(some.problems().len(), 1);

    let small = AccessRight { endpoints: vec![endpoint("get", "/x")], ..right("a") };
    let found = limits(&session(vec![small]), "GET", "/a/x").endpoint_rate.expect("it counts");
    assert_eq!(&*found.name, "GET /x");
}

#[test]
fn throttling_is_bounded() {
    let check = |interval: f64, retries: i32, expected: Option<(u64, u32)>| {
        let rate = Rate { throttle_interval: interval, throttle_retries: retries, ..rate(1.0, 1.0) };
        let found = limits(&Session { rate, ..Session::default() }, "GET", "/").throttle;
        assert_eq!(found.map(|throttle| (throttle.interval.as_secs(), throttle.retries)), expected);
    };
    check(2.0, 3, Some((2, 3)));
    check(1e9, i32::MAX, Some((60, 100)));
    check(-1.0, -1, None);
    check(0.0, 5, None);
    check(f64::NAN, 5, None);
}

proptest! {
    #[test]
    fn plain_patterns_open_what_begins_with_them_and_nothing_else(url in "/[a-z/]{0,6}", path in "/[a-z/]{0,9}") {
        let full = format!("/a{path}");
        let expected = path.starts_with(&url) || full.starts_with(&url);
        let found = with_urls(&[(&url, &["GET"])]).check(&call("GET", &full));
        prop_assert_eq!(found.is_ok(), expected);
        // The same as a regular expression.
        let found = with_urls(&[(&format!("(?:{url})"), &["GET"])]).check(&call("GET", &full));
        prop_assert_eq!(found.is_ok(), expected);
    }

    #[test]
    fn any_pattern_is_taken_or_told(url: String, path in "/[a-z]{0,9}") {
        let some = with_urls(&[(&url, &["GET"])]);
        let _ = some.check(&call("GET", &path));
    }
}
