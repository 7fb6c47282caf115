//! What a stranger's component and its answers may be, for fuzzing: nothing here may panic, and what passes must hold.

use std::cell::LazyCell;

use http::{HeaderMap, HeaderName, Uri};
use wasmtime::component::Component;

use super::check;
use super::schema::{Misfit, Question};
use super::shape;
use super::v0_1::lift::{self, Lift};
use super::v0_1::written::{self, Lines};
use super::verdict::{AuthVerdict, HeaderEdit, RequestEdit, ResponseEdit, UpstreamOverride, Verdict};
use crate::message::hop;
use crate::model::id::{ApiId, PluginName};
use crate::model::key::HashAlgorithm;
use crate::model::outgoing::Destination;
use crate::model::path;
use crate::model::plugin::{Capability, Hook, Limits};
use crate::model::session::{Session, SessionEdit};
use crate::telemetry::text::is_plain;
use crate::tyk;

/// The bytes of a component: what is looked at before a byte of it runs. Few functions are allowed, so that compiling, which is
/// not ours, is next to nothing.
pub fn component(bytes: &[u8]) {
    thread_local! {
        static ENGINE: LazyCell<wasmtime::Engine> = LazyCell::new(|| {
            let mut config = super::engine::CodeSettings::parse("on-demand:1048576").expect("a word of ours").config();
            config.cranelift_opt_level(wasmtime::OptLevel::None);
            wasmtime::Engine::new(&config).expect("a configuration of ours")
        });
    }
    let (plugin, limits) = (name(), Limits { functions_max: 20, ..Limits::default() });
    if check::is_component(&plugin, bytes).is_err() || shape::check(&plugin, bytes, &limits).is_err() {
        return;
    }
    let Ok(component) = ENGINE.with(|engine| Component::new(engine, bytes)) else { return };
    let told = [check::types(&plugin, &component).err(), check::resources(&plugin, &component, &limits).err()];
    told.into_iter().flatten().for_each(|error| shown(&error.to_string()));
}

/// An answer of `describe`, and a configuration for the plugin: a line `config`.
pub fn describe(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = Lines::of(&text);
    let config = lines.first();
    let Ok(description) = lift::description(written::description(&lines)) else { return };

    // The cache keeps it so.
    let kept = serde_json::to_vec(&description).expect("it can be kept");
    assert_eq!(serde_json::from_slice::<super::description::Description>(&kept).ok(), Some(description.clone()));
    assert!(is_plain(&description.name) && is_plain(&description.version), "{description:?}");
    for function in &description.functions {
        assert!(is_plain(&function.name), "{function:?}");
        shown(&function.reads.summary());
    }
    let Some(schema) = description.config_schema else { return };
    // A gateway answers in a process that it ends; here, a schema of many references would be taken for a loop.
    if schema.matches("Ref").count() + schema.matches("$ref").count() > REFERENCES_MAX {
        return;
    }
    let config = config.get(1).map_or("null", |text| text).to_owned();
    match (Question { schema, config }).answer() {
        Ok(()) => {}
        Err(Misfit::Schema(reason)) => shown(&reason),
        Err(Misfit::Config { path, reason }) => [path, reason].iter().for_each(|text| shown(text)),
    }
}

/// An answer of a hook: its name and case, and whether rights are granted, are the first line.
pub fn answer(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = Lines::of(&text);
    let [hook, case, granted] = match lines.first()[..] {
        [hook, case] => [hook, case, ""],
        [hook, case, granted, ..] => [hook, case, granted],
        _ => return,
    };
    let limits = Limits { body_out_bytes_max: 1_000, header_count_max: 5, header_bytes_max: 200, ..Limits::default() };
    let grants = if granted == "granted" { &Capability::ALL[..] } else { &[] };
    let apis = [ApiId::parse("other").ok()].into_iter().flatten().collect::<Vec<_>>();
    let anywhere = ["http://*:*", "https://*:*", "http://0.0.0.0/0:*", "https://[::]/0:*"];
    let upstream: Vec<_> = anywhere.iter().filter_map(|place| Destination::parse(place, false).ok()).collect();
    let lift = match granted {
        "granted" => Lift { limits: &limits, grants, upstream: &upstream, apis: &apis },
        _ => Lift { limits: &limits, grants, upstream: &[], apis: &[] },
    };
    let Some(hook) = Hook::ALL.into_iter().find(|known| known.to_string() == hook) else { return };
    match hook {
        Hook::Pre => verdict(lift.pre(written::pre(case, &lines)), lift),
        Hook::Auth => match lift.auth(written::auth(case, &lines)) {
            Ok(AuthVerdict::Authenticated { session, edits }) => {
                kept(&session);
                request_edits(&edits, lift);
            }
            Ok(AuthVerdict::Respond(reply)) => head(reply.status.as_u16(), 200, &reply.headers, lift),
            Ok(AuthVerdict::Reject(rejection)) => head(rejection.status.as_u16(), 400, &rejection.headers, lift),
            Ok(AuthVerdict::Refuse(_)) => {}
            Err(lift::Invalid(reason)) => shown(&reason),
        },
        Hook::PostAuth | Hook::Endpoint | Hook::Post => {
            verdict(lift.action(written::post(case, &lines).into()), lift);
        }
        Hook::Response => match lift.response(written::response(case, &lines)) {
            Ok(edits) => {
                let fields = edits.iter().filter_map(|edit| match edit {
                    ResponseEdit::Header(edit) => Some(edit),
                    _ => None,
                });
                header_edits(fields, lift);
            }
            Err(lift::Invalid(reason)) => shown(&reason),
        },
        Hook::Analytics => match lift.analytics(written::analytics(case, &lines), 1) {
            Ok(verdicts) => assert_eq!(verdicts.len(), 1),
            Err(lift::Invalid(reason)) => shown(&reason),
        },
    }
}

fn verdict(verdict: Result<Verdict, lift::Invalid>, lift: Lift<'_>) {
    match verdict {
        Ok(Verdict::Continue) => {}
        Ok(Verdict::Edit(edits)) => {
            request_edits(&edits.request, lift);
            assert!(!lift.grants.is_empty() || !edits.session.iter().any(SessionEdit::needs_grant));
            let mut session = Session::default();
            edits.session.into_iter().for_each(|edit| session.apply(edit));
            kept(&session);
        }
        Ok(Verdict::Respond(reply)) => {
            assert!(reply.body.len() <= 1_000);
            head(reply.status.as_u16(), 200, &reply.headers, lift);
        }
        Ok(Verdict::Reject(rejection)) => head(rejection.status.as_u16(), 400, &rejection.headers, lift),
        Err(lift::Invalid(reason)) => shown(&reason),
    }
}

fn request_edits(edits: &[RequestEdit], lift: Lift<'_>) {
    let fields = edits.iter().filter_map(|edit| match edit {
        RequestEdit::Header(edit) => Some(edit),
        _ => None,
    });
    header_edits(fields, lift);
    for edit in edits {
        match edit {
            RequestEdit::Method(method) => assert!(method != http::Method::CONNECT),
            RequestEdit::Path(path) => {
                assert_eq!(path::canonical(path).as_deref(), Ok(path.as_str()));
                assert!(Uri::try_from(path.as_str()).is_ok_and(|uri| uri.path() == path), "{path:?}");
            }
            RequestEdit::Query(Some(query)) => {
                let uri = Uri::try_from(format!("/?{query}"));
                assert!(uri.is_ok_and(|uri| uri.query() == Some(query)), "{query:?}");
            }
            RequestEdit::Upstream(target) => {
                assert!(!lift.grants.is_empty());
                if let UpstreamOverride::Origin(origin, _) = target {
                    assert!(!origin.host.is_empty() && !origin.host.contains(['/', '@', ' ', '\n']), "{origin:?}");
                }
            }
            _ => {}
        }
    }
}

fn header_edits<'e>(edits: impl Iterator<Item = &'e HeaderEdit>, lift: Lift<'_>) {
    let mut count = 0;
    for edit in edits {
        let name = match edit {
            HeaderEdit::Set(name, _) | HeaderEdit::Append(name, _) => {
                count += 1;
                name
            }
            HeaderEdit::Remove(name) => name,
        };
        may_be_set(name);
    }
    assert!(count <= lift.limits.header_count_max);
}

fn head(status: u16, at_least: u16, headers: &HeaderMap, lift: Lift<'_>) {
    assert!((at_least..600).contains(&status));
    headers.keys().for_each(may_be_set);
    assert!(headers.len() <= usize::try_from(lift.limits.header_count_max).expect("small"));
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    assert!(u64::try_from(bytes).expect("small") <= lift.limits.header_bytes_max);
}

fn may_be_set(name: &HeaderName) {
    assert!(!hop::is_connection_field(name), "{name}");
}

/// A session that a plugin made is written to the store, and must be read from there again as it was.
fn kept(session: &Session) {
    let written = tyk::session::write(session, HashAlgorithm::Sha256);
    let read = tyk::session::read(&written);
    let read = read.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&written)));
    assert_eq!(tyk::session::write(&read, HashAlgorithm::Sha256), written);
}

/// What is told of a stranger is told in bounds, once it is escaped.
fn shown(reason: &str) {
    let escaped = super::failure::escaped_reason(reason);
    assert!(escaped.len() < 2_100 && !escaped.contains(['\n', '\r', '\u{1b}']), "{escaped}");
}

const REFERENCES_MAX: usize = 8;

fn name() -> PluginName {
    PluginName::parse("stranger").expect("a name")
}
