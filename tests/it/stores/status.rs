//! What a caller is told who is not let in: Tyk's statuses and words.

use serde_json::{Value, json};
use stile_tests::{Api, Gateway, Upstream, api, plugin};

use super::{Place, extracted};

/// A request that is refused.
struct Row {
    api: Api,
    /// Whether the caller says who it is.
    says: bool,
    /// Requests before it that pass.
    passing: usize,
    status: u16,
    message: &'static str,
}

/// Every row of Tyk's table, but those that cannot come about:
/// - 400 "Session state is missing or unset": an `auth` plugin either makes a session or says why not.
/// - 500 "Internal Server Error" for a driver or plugin that is not loaded: such an API is not served, and answers 503,
///   which `load` tests.
/// - 500 of the JSVM.
#[tokio::test]
async fn whoever_is_refused_is_told_what_tyk_tells() {
    for place in Place::each() {
        let upstream = Upstream::start();
        let rows = rows(&upstream);
        let mut builder = place.of(Gateway::with(api("open").upstream(&upstream)).grant("hostile", ["log", "kv"]));
        for (number, row) in rows.iter().enumerate() {
            let id = format!("row-{number}");
            builder = builder.and(row.api.clone().set("/id", id.as_str()).path(&format!("/{id}/")));
        }
        let gateway = builder.start().await;

        for (number, row) in rows.iter().enumerate() {
            let ask = async || {
                let call = gateway.get(&format!("/row-{number}/1"));
                let call = if row.says { call.header("authorization", "ana") } else { call };
                call.send().await
            };
            for _ in 0..row.passing {
                assert_eq!(ask().await.status(), 200, "row {number}: {}", row.message);
            }
            let reply = ask().await;
            let told = (reply.status(), reply.json()["error"].as_str().map(str::to_owned));
            assert_eq!(told, (row.status, Some(row.message.to_owned())), "row {number}");
            assert_eq!(reply.header("www-authenticate").is_some(), row.status == 401, "row {number}");
        }
    }
}

fn rows(upstream: &Upstream) -> Vec<Row> {
    let made = |session: Value| api("made").upstream(upstream).auth(plugin("session").config(session));
    let row = |session: Value, status: u16, message: &'static str| Row {
        api: made(session),
        says: true,
        passing: 0,
        status,
        message,
    };
    let refused = |refuse: &str, status, message| row(json!({ "refuse": refuse }), status, message);
    let attacking = |attack: &str| plugin("hostile").function("attack").config(json!({ "attack": attack }));
    let attack = || attacking("panic");
    let naming = |policies: Value, granted: Value| {
        let auth = json!({ "plugin": "session", "config": { "policies": policies }, "policies": granted });
        made(json!({})).set("/auth", auth)
    };
    let matching = json!({ "from": "header", "with": "regex", "regex": "key-[0-9]+" });

    vec![
        // The ID extractor finds nothing.
        Row { says: false, api: extracted("ids", &upstream.url(), json!({})), ..row(json!({}), 400, MISSING) },
        Row {
            api: extracted("ids", &upstream.url(), json!({})).set("/auth/id_extractor", matching),
            ..row(json!({}), 400, MISSING)
        },
        // No credential.
        Row { says: false, ..refused("missing", 401, MISSING) },
        Row {
            says: false,
            api: api("token").upstream(upstream).set("/auth", json!({})),
            ..row(json!({}), 401, MISSING)
        },
        // In the past.
        refused("expired", 401, "Key has expired, please renew"),
        row(json!({ "expires": 1 }), 401, "Key has expired, please renew"),
        // The plugin fails, does what it may not, or rejects without a word.
        refused("fail", 403, "Key not authorised"),
        Row { api: api("made").upstream(upstream).auth(attack()), ..row(json!({}), 403, "Key not authorised") },
        Row {
            api: api("made").upstream(upstream).auth(attacking("bad_path")),
            ..row(json!({}), 403, "Key not authorised")
        },
        Row { api: naming(json!(["gold"]), json!(["silver"])), ..row(json!({}), 403, "Key not authorised") },
        row(json!({ "reject": "" }), 418, "Key not authorised"),
        row(json!({ "reject": "short and stout" }), 418, "short and stout"),
        // No token, policies that are not there.
        Row { says: false, ..row(json!({ "token": "" }), 403, "Forbidden") },
        Row { api: naming(json!(["gold"]), json!(["*"])), ..row(json!({}), 403, "Forbidden") },
        // Switched off.
        refused("inactive", 403, "Key is inactive, please renew"),
        row(json!({ "inactive": true }), 403, "Key is inactive, please renew"),
        // Unknown, or without a right.
        refused("unknown", 403, "Access to this API has been disallowed"),
        Row {
            api: api("token").upstream(upstream).set("/auth", json!({})),
            ..row(json!({}), 403, "Access to this API has been disallowed")
        },
        row(json!({ "apis": ["other"] }), 403, "Access to this API has been disallowed"),
        Row {
            api: made(json!({ "apis": own_ids(), "versions": ["v1"] })).set("/versions", versions("v2")),
            ..row(json!({}), 403, "Access to this API has been disallowed")
        },
        Row {
            passing: 1,
            api: made(json!({ "apis": own_ids(), "versions": ["v1"], "quota_max": 1 }))
                .set("/versions", versions("v1")),
            ..row(json!({}), 403, "Quota exceeded")
        },
        row(json!({ "apis": own_ids(), "urls": ["/elsewhere"] }), 403, "Access to this resource has been disallowed"),
        // Used up.
        Row { passing: 2, ..row(json!({ "quota_max": 2, "quota_renewal_rate": 3600 }), 403, "Quota exceeded") },
        Row { passing: 2, ..row(json!({ "rate": 2, "per_seconds": 3600 }), 429, "Rate Limit Exceeded") },
        Row {
            passing: 2,
            api: made(json!({})).set("/rate_limit", json!({ "requests": 2, "per_seconds": 3600 })),
            ..row(json!({}), 429, "API Rate Limit Exceeded")
        },
        // Another plugin fails, or says what cannot be done, on the way there or back.
        Row { api: made(json!({})).post_auth(attacking("err")), ..row(json!({}), 500, "Middleware error") },
        Row { api: made(json!({})).post(attacking("bad_path")), ..row(json!({}), 500, "Middleware error") },
        Row { api: made(json!({})).response(attacking("bad_status")), ..row(json!({}), 500, "Middleware error") },
        Row { api: made(json!({})).post(attack()), ..row(json!({}), 500, "Middleware error") },
        Row { api: made(json!({})).response(attack()), ..row(json!({}), 500, "Middleware error") },
    ]
}

/// Two versions, of which requests get this one.
fn versions(default: &str) -> Value {
    json!({ "from": "header", "name": "x-api-version", "default": default, "list": ["v1", "v2"] })
}

/// A row does not know its number.
fn own_ids() -> Vec<String> {
    (0..100).map(|number| format!("row-{number}")).collect()
}

const MISSING: &str = "Authorization field missing";
