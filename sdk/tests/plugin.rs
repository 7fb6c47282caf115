//! What `#[plugin]` makes of an impl block, as the gateway and a caller would see it.

use std::cell::Cell;

use stile_sdk::{
    prelude::*,
    serde_json::json,
    testing::{
        Call, Host,
        description::{BodyRead, ContextFields, HeaderSelection, Hook, MetricKind},
        record,
    },
    types::{Upstream, Variable},
};

#[config]
struct Config {
    /// How far.
    far: u8,
    #[serde(default)]
    mode: Mode,
}

#[config]
#[derive(Default, PartialEq)]
enum Mode {
    #[default]
    VeryCareful,
    Easy,
}

struct Everything {
    config: Config,
    calls: Cell<u32>,
}

#[plugin(
    capabilities(kv = "remembers", session_limits = "slows callers down", metrics = "counts"),
    counters(seen_total = "calls seen"),
    histograms(size_bytes = "bytes seen")
)]
impl Everything {
    fn new(config: Config) -> Result<Self, String> {
        match config.far {
            0 => Err("`far` is at least 1".to_owned()),
            _ => Ok(Self { config, calls: Cell::new(0) }),
        }
    }

    #[pre(headers = ["Authorization", "x-tenant"], body = 4 + 4, context = [api, vars], name = "look-closely")]
    fn look_closely(&self, request: &mut Request, context: &Context) -> Result<Action, String> {
        let seen: Vec<_> = request.headers.iter().map(|(name, _)| name.to_owned()).collect();
        let Some(api) = &context.api else { return Err("no api".to_owned()) };
        let body = request.body().map(<[u8]>::len);
        let seen = format!("{seen:?} {body:?} {} {:?} {:?}", api.id, context.host, request.vars.text("who"));
        request.headers.set("x-seen", seen);
        Ok(Action::Continue)
    }

    #[pre]
    fn look_away(request: &mut Request) {
        let seen = (request.headers.iter().count(), request.body().is_some(), request.vars.iter().count());
        assert_eq!(seen, (0, false, 0));
    }

    #[pre]
    fn count(&self) -> Reply {
        let step = if self.config.mode == Mode::Easy { u32::from(self.config.far) } else { 1 };
        self.calls.set(self.calls.get() + step);
        Reply::new(418).body(self.calls.get().to_string())
    }

    #[pre]
    fn edit(request: &mut Request) {
        request.set_method("PROPFIND".into());
        request.set_path("/elsewhere");
        request.query.append("q", "a b");
        request.set_body("body");
        request.vars.set("who", "me");
    }

    #[pre]
    fn reroute(request: &mut Request) {
        request.set_upstream(Upstream::Origin("https://blue.internal".to_owned()));
    }

    #[pre]
    fn give_up() -> Result<(), std::num::ParseIntError> {
        "x".parse::<u8>().map(drop)
    }

    #[post_auth]
    fn slow_down(session: Option<&Session>, edits: &mut SessionEdits) -> Action {
        let Some(session) = session else { return reject(403, "keyless") };
        edits.set_alias(format!("slow {}", session.alias));
        edits.set_rate(stile_sdk::types::Rate::new(1.0, 60.0));
        Action::Continue
    }

    #[post]
    fn blind(edits: &mut SessionEdits) {
        edits.add_tag("seen");
    }

    #[response(request_headers = all, body = 1024)]
    fn measure(response: &mut Response, request: &Request) -> Result<(), stile_sdk::metrics::Error> {
        response.set_status(299);
        response.headers.set("x-fields", request.headers.iter().count().to_string());
        stile_sdk::metrics::add("unheard_of", 1)
    }

    #[analytics]
    fn drop_health(record: &mut Record) -> Verdict {
        if record.path == "/health" { Verdict::Drop } else { Verdict::Keep }
    }
}

fn config() -> stile_sdk::serde_json::Value {
    json!({ "far": 1 })
}

#[test]
fn the_description_tells_what_attributes_and_arguments_say() {
    let loaded = Host::new().load_with::<Everything>(config());
    let description = loaded.description();
    let reads = |name: &str| {
        let function = description.functions.iter().find(|function| function.name == name);
        &function.unwrap_or_else(|| panic!("`{name}` is described")).reads
    };

    assert_eq!(description.name, env!("CARGO_PKG_NAME"));
    assert_eq!(description.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(description.functions.iter().filter(|function| function.hook == Hook::Pre).count(), 6);

    let closely = reads("look-closely");
    assert_eq!(closely.headers, HeaderSelection::Named(vec!["authorization".to_owned(), "x-tenant".to_owned()]));
    assert_eq!(closely.body, BodyRead::Buffered(8));
    assert_eq!(closely.context, ContextFields::API | ContextFields::VARS);
    assert!(!closely.session);

    let away = reads("look_away");
    assert_eq!(
        (&away.headers, &away.body, away.context),
        (&HeaderSelection::None, &BodyRead::None, ContextFields::empty())
    );

    assert!(reads("slow_down").session);
    assert!(!reads("blind").session, "edits alone do not read the session");
    assert_eq!(reads("measure").request_headers, HeaderSelection::All);

    let capabilities: Vec<_> = description.capabilities.iter().map(|asked| asked.name.as_str()).collect();
    assert_eq!(capabilities, ["kv", "session-limits", "metrics"]);
    let metrics: Vec<_> = description.metrics.iter().map(|metric| (metric.name.as_str(), metric.kind)).collect();
    assert_eq!(metrics, [("seen_total", MetricKind::Counter), ("size_bytes", MetricKind::Histogram)]);
}

#[test]
fn the_schema_has_descriptions_and_refuses_unknown_keys() {
    let loaded = Host::new().load_with::<Everything>(config());
    let schema = loaded.description().config_schema.clone().expect("the plugin has a configuration");
    let schema: stile_sdk::serde_json::Value = stile_sdk::serde_json::from_str(&schema).expect("a schema is JSON");
    assert_eq!(schema.pointer("/additionalProperties"), Some(&json!(false)));
    assert_eq!(schema.pointer("/properties/far/description"), Some(&json!("How far.")));
    assert_eq!(schema.pointer("/required"), Some(&json!(["far"])));
    assert!(schema.to_string().contains("very_careful"));
}

#[test]
fn a_configuration_that_does_not_fit_is_a_load_error() {
    let host = Host::new();
    assert!(host.try_load_with::<Everything>(json!({})).is_err_and(|error| error.contains("far")));
    assert!(host.try_load_with::<Everything>(json!({ "far": 0 })).is_err_and(|error| error.contains("at least 1")));
    assert!(host.try_load_with::<Everything>(json!({ "far": 1, "near": 1 })).is_err());
    assert!(host.try_load_with::<Everything>(json!({ "far": 1, "mode": "easy" })).is_ok());
    let careful = Host::new().try_load_with::<Everything>(json!({ "far": 1, "mode": "very_careful" }));
    assert!(careful.is_ok());
}

#[test]
fn a_function_is_handed_what_it_asked_for_and_no_more() {
    let plugin = Host::new().load_with::<Everything>(config());
    let call = || {
        let call = Call::post("/", "12345678").with_header("X-Tenant", "red").with_header("accept", "*/*");
        call.with_var("who", "ana")
    };
    let seen = plugin.pre("look-closely", call()).call.header("x-seen").map(str::to_owned);
    assert_eq!(seen.as_deref(), Some(r#"["x-tenant"] Some(8) api None Some("ana")"#));
    assert_eq!(plugin.pre("look-closely", call().with_body("123456789")).status(), Some(413));
    assert!(plugin.pre("look_away", call()).continues());
}

#[test]
fn changes_arrive() {
    let plugin = Host::new().load_with::<Everything>(config());
    let call = plugin.pre("edit", Call::get("/?p=1")).call;
    assert_eq!((call.method.as_str(), call.path.as_str()), ("PROPFIND", "/elsewhere"));
    assert_eq!(call.query.as_deref(), Some("p=1&q=a%20b"));
    assert_eq!(call.body(), Some("body"));
    let who: Variable = ("who".to_owned(), b"me".to_vec());
    assert_eq!(call.vars, [who]);
}

#[test]
fn state_lasts_as_long_as_the_instance() {
    let plugin = Host::new().load_with::<Everything>(json!({ "far": 5, "mode": "easy" }));
    assert_eq!(plugin.pre("count", Call::get("/")).body(), Some("5"));
    assert_eq!(plugin.pre("count", Call::get("/")).body(), Some("10"));
}

#[test]
fn an_error_is_a_failure_with_its_text() {
    let plugin = Host::new().load_with::<Everything>(config());
    let outcome = plugin.pre("give_up", Call::get("/"));
    assert_eq!(outcome.error.as_deref(), Some("invalid digit found in string"));
    assert!(!outcome.continues());
    let outcome = plugin.response("measure", Call::get("/"), Reply::new(200));
    assert!(outcome.error.is_some(), "an undeclared metric is refused");
}

#[test]
fn sessions_are_read_and_edited() {
    let plugin = Host::new().load_with::<Everything>(config());
    assert_eq!(plugin.post_auth("slow_down", Call::get("/")).status(), Some(403));
    let call = plugin.post_auth("slow_down", Call::get("/").with_session(Session::new("k").with_alias("ana"))).call;
    let session = plugin.post("blind", call).call.session.expect("the session stays");
    assert_eq!((session.alias.as_str(), session.rate.requests), ("slow ana", 1.0));
    assert!(session.has_tag("seen"));
}

#[test]
fn records_are_dropped_by_verdict() {
    let plugin = Host::new().load_with::<Everything>(config());
    assert!(plugin.analytics("drop_health", record()).is_ok_and(|stored| stored.is_some()));
    let mut health = record();
    health.path = "/health".to_owned();
    assert_eq!(plugin.analytics("drop_health", health), Ok(None));
}

#[test]
#[should_panic(expected = "needs `upstream` without asking")]
fn a_test_fails_where_a_capability_is_not_asked_for() {
    let plugin = Host::new().load_with::<Everything>(config());
    plugin.pre("reroute", Call::get("/"));
}

#[test]
#[should_panic(expected = "no function `nobody`")]
fn a_test_fails_where_the_function_does_not_exist() {
    Host::new().load_with::<Everything>(config()).pre("nobody", Call::get("/"));
}

#[test]
fn a_plugin_without_functions_that_take_self_has_no_configuration() {
    struct Plain;

    #[plugin]
    impl Plain {
        #[endpoint]
        fn teapot(params: &PathParams) -> Reply {
            Reply::new(418).body(params.get("pot").unwrap_or("none"))
        }
    }

    let plain = Host::new().load::<Plain>();
    assert_eq!(plain.description().config_schema, None);
    let outcome = plain.endpoint("teapot", Call::get("/").with_path_param("pot", "blue"));
    assert_eq!((outcome.status(), outcome.body()), (Some(418), Some("blue")));
}

#[test]
fn stored_sessions_are_found_by_token_and_changed_within_the_grant() {
    struct Keys;

    #[plugin(capabilities(sessions = "does as it is told"))]
    impl Keys {
        #[pre]
        fn rename(request: &mut Request) -> Result<(), sessions::UpdateError> {
            sessions::update(request.path().trim_start_matches('/'), |session| session.set_alias("Ana"))
        }

        #[pre]
        fn switch_off() -> Result<(), sessions::UpdateError> {
            sessions::update("ana-token", |session| session.set_inactive(true))
        }
    }

    let host = Host::new();
    host.set_session("ana-token", Session::new("ana"));
    let keys = host.load::<Keys>();
    let ends = |function: &str, path: &str| keys.pre(function, Call::get(path)).error;
    assert_eq!(ends("rename", "/ana-token"), None);
    let refused = [ends("rename", "/nobody"), ends("switch_off", "/")];
    assert!(refused[0].as_deref().is_some_and(|text| text.contains("NotFound")), "{refused:?}");
    assert!(refused[1].as_deref().is_some_and(|text| text.contains("Denied")), "{refused:?}");
    let ana = host.session("ana-token").expect("it is kept");
    assert_eq!((ana.alias.as_str(), ana.inactive), ("Ana", false));
}

#[test]
#[should_panic(expected = "add `#[plugin(capabilities(sessions = \"why\"))]`")]
fn a_plugin_that_asked_to_read_sessions_only_cannot_change_them() {
    struct Keys;

    #[plugin(capabilities(sessions_read = "looks"))]
    impl Keys {
        #[pre]
        fn rename() -> Result<(), sessions::UpdateError> {
            assert_eq!(sessions::get("ana-token"), Err(sessions::ReadError::NotFound));
            sessions::update("ana-token", |session| session.set_alias("Ana"))
        }
    }

    Host::new().load::<Keys>().pre("rename", Call::get("/"));
}
