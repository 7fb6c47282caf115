//! The gateway's side of `log`, `kv`, `metrics`, `sessions`, `http`, `secrets` and `apis`, as far as tests need it. Each thread has its own.

use std::{cell::RefCell, collections::BTreeMap};

use crate::{
    apis as inner, guest::contract::PluginDescription, http as client, kv::Error as KvError, log::Level,
    testing::LogLine, types::Session,
};

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

#[derive(Default)]
pub(super) struct State {
    pub(super) time_ms: u64,
    /// Of the loaded plugin: what it asked for and declared.
    pub(super) description: Option<PluginDescription>,
    pub(super) lines: Vec<LogLine>,
    pub(super) kv: BTreeMap<String, Stored>,
    pub(super) kv_failure: Option<KvError>,
    pub(super) sessions: BTreeMap<String, Session>,
    pub(super) sessions_away: bool,
    pub(super) counters: BTreeMap<String, u64>,
    pub(super) histograms: BTreeMap<String, Vec<f64>>,
    pub(super) http_answer: Option<HttpAnswer>,
    pub(super) http_requests: Vec<client::Request>,
    pub(super) secrets: Vec<String>,
    pub(super) api_answer: Option<ApiAnswer>,
    pub(super) api_requests: Vec<inner::Request>,
}

/// What a test answers requests with.
pub(super) type HttpAnswer = std::rc::Rc<dyn Fn(&client::Request) -> Result<client::Response, client::Error>>;

/// What a test answers calls to APIs with.
pub(super) type ApiAnswer = std::rc::Rc<dyn Fn(&inner::Request) -> Result<inner::Response, inner::Error>>;

pub(super) struct Stored {
    pub(super) value: Vec<u8>,
    pub(super) until_ms: Option<u64>,
}

pub(super) fn with<T>(work: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(work)
}

impl State {
    /// A plugin that forgot to ask for a capability would not load, so its test must not pass.
    #[track_caller]
    fn demand(&self, capability: &str) {
        assert!(
            self.has(capability),
            "the plugin uses `{capability}` without asking: add `#[plugin(capabilities({} = \"why\"))]`",
            capability.replace('-', "_"),
        );
    }

    fn has(&self, capability: &str) -> bool {
        let mut asked = self.description.iter().flat_map(|description| &description.capabilities);
        asked.any(|asked| asked.name == capability)
    }
}

pub(crate) mod log {
    use super::{Level, LogLine, with};

    #[track_caller]
    pub(crate) fn log(level: Level, message: &str, fields: &[(String, String)]) {
        with(|state| {
            state.demand("log");
            state.lines.push(LogLine { level, message: message.to_owned(), fields: fields.to_vec() });
        });
    }
}

pub(crate) mod http {
    use super::with;
    use crate::http::{Error, Request, Response};

    #[track_caller]
    pub(crate) fn send(request: Request) -> Result<Response, Error> {
        // Outside of the state: the answer is the test's own code.
        let answer = with(|state| {
            state.demand("outgoing-http");
            state.http_requests.push(request.clone());
            state.http_answer.clone()
        });
        answer.map_or(Err(Error::Denied), |answer| answer(&request))
    }
}

pub(crate) mod apis {
    use super::with;
    use crate::apis::{Error, Request, Response};

    #[track_caller]
    pub(crate) fn call(request: Request) -> Result<Response, Error> {
        // Outside of the state: the answer is the test's own code.
        let answer = with(|state| {
            state.demand("apis");
            state.api_requests.push(request.clone());
            state.api_answer.clone()
        });
        answer.map_or(Err(Error::Denied), |answer| answer(&request))
    }

    #[track_caller]
    pub(crate) fn call_all(requests: Vec<Request>) -> Vec<Result<Response, Error>> {
        requests.into_iter().map(call).collect()
    }
}

pub(crate) mod secrets {
    use super::with;
    use crate::secrets::Error;

    #[track_caller]
    pub(crate) fn placeholder(name: &str) -> Result<String, Error> {
        with(|state| {
            state.demand("secrets");
            let known = state.secrets.iter().any(|known| known == name);
            known.then(|| format!("placeholder-of-{name}")).ok_or(Error::NotFound)
        })
    }
}

pub(crate) mod kv {
    use super::{KvError as Error, State, Stored, with};

    impl State {
        fn current(&mut self, key: &str) -> Option<&mut Stored> {
            let time_ms = self.time_ms;
            self.kv.retain(|_, stored| stored.until_ms.is_none_or(|until_ms| time_ms < until_ms));
            self.kv.get_mut(key)
        }

        fn put(&mut self, key: &str, value: &[u8], ttl_ms: Option<u64>) {
            let until_ms = ttl_ms.map(|ttl_ms| self.time_ms.saturating_add(ttl_ms));
            self.kv.insert(key.to_owned(), Stored { value: value.to_vec(), until_ms });
        }
    }

    /// Every call goes through here: it may be made to fail.
    #[track_caller]
    fn call<T>(key: &str, work: impl FnOnce(&mut State) -> Result<T, Error>) -> Result<T, Error> {
        with(|state| {
            state.demand("kv");
            match state.kv_failure {
                Some(failure) => Err(failure),
                None if key.is_empty() => Err(Error::KeyInvalid),
                None => work(state),
            }
        })
    }

    pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
        call(key, |state| Ok(state.current(key).map(|stored| stored.value.clone())))
    }

    pub(crate) fn set(key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), Error> {
        call(key, |state| {
            state.put(key, value, ttl_ms);
            Ok(())
        })
    }

    pub(crate) fn delete(key: &str) -> Result<bool, Error> {
        call(key, |state| {
            let found = state.current(key).is_some();
            state.kv.remove(key);
            Ok(found)
        })
    }

    pub(crate) fn increment(key: &str, by: i64, ttl_ms: Option<u64>) -> Result<i64, Error> {
        call(key, |state| {
            let Some(stored) = state.current(key) else {
                state.put(key, by.to_string().as_bytes(), ttl_ms);
                return Ok(by);
            };
            let number = std::str::from_utf8(&stored.value).ok().and_then(|text| text.parse::<i64>().ok());
            let number = number.and_then(|number| number.checked_add(by)).ok_or(Error::NotANumber)?;
            stored.value = number.to_string().into_bytes();
            Ok(number)
        })
    }

    pub(crate) fn compare_and_set(
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl_ms: Option<u64>,
    ) -> Result<bool, Error> {
        call(key, |state| {
            let same = state.current(key).map(|stored| stored.value.as_slice()) == expected;
            if same {
                state.put(key, value, ttl_ms);
            }
            Ok(same)
        })
    }
}

pub(crate) mod sessions {
    use super::with;
    use crate::{
        sessions::{ReadError, UpdateError},
        testing::apply::edit_session,
        types::{Session, SessionEdit},
    };

    #[track_caller]
    pub(crate) fn get(token: &str) -> Result<Session, ReadError> {
        with(|state| {
            if !state.has("sessions") {
                state.demand("sessions-read");
            }
            match state.sessions_away {
                true => Err(ReadError::Unavailable),
                false => state.sessions.get(token).cloned().ok_or(ReadError::NotFound),
            }
        })
    }

    #[track_caller]
    pub(crate) fn update(token: &str, edits: &[SessionEdit]) -> Result<(), UpdateError> {
        with(|state| {
            state.demand("sessions");
            if state.sessions_away {
                return Err(UpdateError::Unavailable);
            }
            let mut session = state.sessions.get(token).cloned().ok_or(UpdateError::NotFound)?;
            if edit_session(&mut session, edits.to_vec()) && !state.has("session-limits") {
                return Err(UpdateError::Denied);
            }
            state.sessions.insert(token.to_owned(), session);
            Ok(())
        })
    }
}

pub(crate) mod metrics {
    use super::with;
    use crate::{guest::contract::MetricKind, metrics::Error};

    fn declared(state: &super::State, name: &str, kind: MetricKind) -> Result<(), Error> {
        state.demand("metrics");
        let mut declared = state.description.iter().flat_map(|description| &description.metrics);
        declared.any(|metric| metric.name == name && metric.kind == kind).then_some(()).ok_or(Error::Undeclared)
    }

    pub(crate) fn add(counter: &str, by: u64) -> Result<(), Error> {
        with(|state| {
            declared(state, counter, MetricKind::Counter)?;
            *state.counters.entry(counter.to_owned()).or_default() += by;
            Ok(())
        })
    }

    pub(crate) fn observe(histogram: &str, value: f64) -> Result<(), Error> {
        with(|state| {
            declared(state, histogram, MetricKind::Histogram)?;
            if !value.is_finite() {
                return Err(Error::ValueInvalid);
            }
            state.histograms.entry(histogram.to_owned()).or_default().push(value);
            Ok(())
        })
    }
}
