//! Whether an attack comes to what its folder says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::alone;
use super::arena::{Arena, Came, FAILURES, SECRET, ways};
use super::attack::{Attack, Case, Guard};
use crate::{Page, Upstream, workspace};

/// Tries an attack in every way, at every hook, with its guards and without each of them. What came out otherwise than its
/// folder says, a line each.
pub async fn check(attack: &Attack) -> Vec<String> {
    let mut wrong = Vec::new();
    assert!(!attack.cases.is_empty() && !attack.guards.is_empty(), "{} says nothing", attack.name);
    for case in &attack.cases {
        let arena = Arena::start(attack, case, None).await;
        for (hook, answer) in case.answers() {
            for way in ways(hook, answer) {
                let found = one(&arena, attack, case, hook, way, answer).await;
                wrong.extend(
                    found.into_iter().map(|found| format!("{} {} in {hook}, {way}: {found}", attack.name, case.name)),
                );
            }
        }
        wrong.extend(afterwards(&arena, attack, case).await);
        if let Some(expected) = &case.alone {
            let found = alone::tried(attack, case, expected).await;
            wrong.extend(found.into_iter().map(|found| format!("{} {} alone: {found}", attack.name, case.name)));
        }
    }
    for guard in &attack.guards {
        wrong
            .extend(without(attack, guard).await.map(|found| format!("{} without {}: {found}", attack.name, guard.by)));
    }
    wrong
}

/// One hook under the attack: its answer, its counters, its time, and whether others are served after it.
async fn one(arena: &Arena, attack: &Attack, case: &Case, hook: &str, way: &str, answer: &str) -> Vec<String> {
    let came = arena.attack(hook, way).await;
    let (status, kind) = answer.split_once(' ').expect("a status and a kind");
    let expected = if way == "continue" { format!("200 {kind}") } else { answer.to_owned() };
    let mut wrong = Vec::new();
    if came.answer != expected {
        wrong.push(format!("`{}` instead of `{expected}`: {:?} {}", came.answer, came.body, arena.gateway.problems()));
    }
    if let (Some(expected), "reject") = (&case.body, way)
        && came.body.as_ref().is_none_or(|body| !fits(expected, body))
    {
        wrong.push(format!("the caller reads {:?} instead of `{expected}`", came.body));
    }
    if status != "200" && way == "reject" && came.body.as_ref().is_some_and(|body| body.contains("nobody expects")) {
        wrong.push("the plugin's words are not the caller's to read".to_owned());
    }
    if hook == "load" {
        wrong.extend(problems(arena, attack, case));
    } else {
        wrong.extend(counted(arena, hook, way, kind != "-"));
        wrong.extend(in_time(arena, attack, hook, way));
    }
    let calm = arena.gateway.get("/calm/1").send().await;
    if calm.status() != 200 {
        wrong.push(format!("the neighbour is answered {}", calm.status()));
    }
    wrong
}

/// That what a failure costs is counted, and nothing else is.
fn counted(arena: &Arena, hook: &str, way: &str, is_failure: bool) -> Option<String> {
    let page = arena.gateway.page();
    let id = format!("{hook}-{way}");
    let failures = page.sum(FAILURES, &[("api", &id)]);
    let continued = page.sum("stile_plugin_calls_continued_total", &[("api", &id)]);
    let lost = page.sum("stile_analytics_records_dropped_total", &[("api", &id), ("reason", "plugin")]);
    let is = (is_failure, way == "continue", hook == "analytics");
    let found = (failures > 0.0, continued > 0.0, lost > 0.0);
    let expected = (is.0, is.0 && is.1, is.0 && is.2);
    (found != expected).then(|| {
        format!("(failed, continued, lost) is {found:?} and not {expected:?}:\n{}", page.counted("stile_plugin_call"))
    })
}

/// The call, measured from inside, ended by its deadline and a little: the rest is a busy machine's.
fn in_time(arena: &Arena, attack: &Attack, hook: &str, way: &str) -> Option<String> {
    const NOISE: f64 = 2.0;
    let deadline_ms = attack.plugin.get("limits").and_then(|limits| limits["deadline_ms"].as_f64()).unwrap_or(5_000.0);
    let seconds = arena.gateway.metric("stile_plugin_call_seconds_sum", &[("api", &format!("{hook}-{way}"))]);
    (seconds > (deadline_ms / 1e3 + 0.05) * NOISE).then(|| format!("it took {seconds} s"))
}

fn problems(arena: &Arena, attack: &Attack, case: &Case) -> Vec<String> {
    let problems = arena.gateway.problems();
    let named = format!("plugin `{}`", attack.name);
    let missing = case.problems.iter().chain([&named]).filter(|word| !problems.contains(word.as_str()));
    let mut wrong: Vec<_> = missing.map(|word| format!("`{word}` is not in: {problems}")).collect();
    if problems.contains("apis.calm") || problems.chars().any(|c| c.is_control() && c != '\n') {
        wrong.push(format!("the problems are {problems:?}"));
    }
    wrong
}

/// What holds for the gateway as a whole when the case is over.
async fn afterwards(arena: &Arena, attack: &Attack, case: &Case) -> Vec<String> {
    let mut wrong = Vec::new();
    let made = |page: &Page| {
        let counted = OUTCOMES.iter().filter(|outcome| page.sum(OUTGOING, &[("outcome", outcome)]) > 0.0);
        counted.copied().collect::<BTreeSet<_>>()
    };
    let are_those = |made: &BTreeSet<&str>| {
        made.len() == case.requests.len()
            && case.requests.iter().all(|either| either.split('|').any(|of| made.contains(of)))
    };
    let begun = Instant::now();
    // What is broken off at the end of a call is counted just after it.
    while !are_those(&made(&arena.gateway.page())) && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let page = arena.gateway.page();
    if !are_those(&made(&page)) {
        wrong.push(format!("its requests were {:?} and not {:?}", made(&page), case.requests));
    }
    wrong.extend(counts(&page, &case.counts));
    if arena.forbidden.calls() > 0 {
        wrong.push(format!("it reached {:?}", arena.forbidden.seen()));
    }
    wrong.extend(heard(&arena.upstream).chain(heard(&arena.allowed)));
    let line = |found: String| format!("{} {}: {found}", attack.name, case.name);
    wrong.into_iter().map(line).collect()
}

/// Metrics that are not what they should be.
fn counts(page: &Page, expected: &BTreeMap<String, f64>) -> Vec<String> {
    let found = |metric: &str| {
        let (name, labels) = metric.split_once('{').unwrap_or((metric, ""));
        let labels: Vec<_> =
            labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('=')).collect();
        page.sum(name, &labels)
    };
    let wrong = expected.iter().filter(|(metric, expected)| (found(metric) - **expected).abs() > f64::EPSILON);
    wrong.map(|(metric, expected)| format!("{metric} is {} and not {expected}", found(metric))).collect()
}

/// What no server is to hear.
fn heard(server: &Upstream) -> impl Iterator<Item = String> {
    server.seen().into_iter().filter_map(|seen| {
        let mut told = seen.clone();
        // The one place where a secret may go.
        told.headers.remove("x-secret");
        let is_smuggled = seen.header("x-smuggled").is_some() || seen.target.contains("smuggled");
        (is_smuggled || format!("{told:?}").contains(SECRET)).then(|| format!("a server heard {seen:?}"))
    })
}

/// What the attack comes to without this guard, where it is not what the folder says, or the same as with it.
async fn without(attack: &Attack, guard: &Guard) -> Option<String> {
    let case = attack.cases.iter().find(|case| guard.case.as_ref().is_none_or(|name| *name == case.name));
    let case = case.unwrap_or_else(|| panic!("{} has no such case", attack.name));
    let (hook, with) = case.first();
    if !guard.is_lifted() {
        return in_code(guard);
    }
    let arena = Arena::start(attack, case, Some(guard)).await;
    let came = arena.attack(hook, "reject").await;
    let expected = guard.answer.as_deref().unwrap_or(with);
    if came.answer != expected {
        return Some(format!(
            "`{}` instead of `{expected}`: {:?} {}",
            came.answer,
            came.body,
            arena.gateway.problems()
        ));
    }
    if let Some(word) = &guard.problem {
        let problems = arena.gateway.problems();
        let is_other = !case.problems.contains(word) && problems.contains(word);
        return (!is_other).then(|| format!("the problem is the same: {problems}"));
    }
    if !guard.counts.is_empty() {
        return counts(&arena.gateway.page(), &guard.counts).pop();
    }
    differs(guard, &came, with)
}

fn differs(guard: &Guard, came: &Came, with: &str) -> Option<String> {
    match &guard.body {
        Some(expected) if came.body.as_ref().is_none_or(|body| !fits(expected, body)) => {
            Some(format!("the caller reads {:?} instead of `{expected}`", came.body))
        }
        None if came.answer == with => Some("nothing is different".to_owned()),
        _ => None,
    }
}

/// A guard that has no key may have a test of its own.
fn in_code(guard: &Guard) -> Option<String> {
    let (file, name) = guard.test.as_deref()?.split_once(": ")?;
    let text = std::fs::read_to_string(workspace().join(file)).unwrap_or_default();
    (!text.contains(&format!("fn {name}("))).then(|| format!("{file} has no test `{name}`"))
}

/// Whether a text is this one, with anything for each `…`.
fn fits(expected: &str, text: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

const OUTGOING: &str = "stile_plugin_outgoing_requests_total";
const OUTCOMES: [&str; 21] = [
    "ok",
    "hook",
    "calls",
    "host",
    "not_allowed",
    "address",
    "method",
    "field",
    "secret",
    "busy",
    "time",
    "request_bytes",
    "response_bytes",
    "header_bytes",
    "request_broken",
    "resolve",
    "connect",
    "tls",
    "closed",
    "protocol",
    "aborted",
];
const PATIENCE: Duration = Duration::from_secs(5);
