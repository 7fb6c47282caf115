#![expect(clippy::indexing_slicing, reason = "a test may panic")]

use super::*;
use crate::model::session::{AccessRight, EndpointLimit, Quota, Rate, RateSmoothing};

/// As Tyk 5.14 wrote it.
const TYK: &str = r#"{"rate":1000,"per":1,"date_created":"2026-11-23T01:20:00.511354204Z","quota_max":-1,"quota_renews":1795400400,"quota_renewal_rate":3600,"access_rights":{"an":{"api_name":"an","api_id":"an","versions":["Default"]}},"org_id":"default","tags":["vip"],"alias":"bob","last_updated":"1795396800"}"#;

#[test]
fn what_tyk_wrote_is_read() {
    let session = read(TYK.as_bytes()).expect("Tyk wrote it");
    let rights = AccessRight {
        api_id: "an".to_owned(),
        api_name: "an".to_owned(),
        versions: vec!["Default".to_owned()],
        ..AccessRight::default()
    };
    let expected = Session {
        organisation: "default".to_owned(),
        alias: "bob".to_owned(),
        tags: vec!["vip".to_owned()],
        rate: Rate { requests: 1000.0, per_seconds: 1.0, ..Rate::default() },
        quota: Quota { max: -1, remaining: 0, renews: 1_795_400_400, renewal_rate: 3600 },
        access_rights: vec![rights],
        created_ms: 1_795_396_800_511,
        last_updated: "1795396800".to_owned(),
        ..Session::default()
    };
    assert_eq!(session, expected);
}

#[test]
fn what_is_written_is_what_tyk_would_write_and_the_hash() {
    let session = read(TYK.as_bytes()).expect("Tyk wrote it");
    let mut written: Value = serde_json::from_slice(&write(&session, HashAlgorithm::Sha256)).expect("it is JSON");
    let hash = written.as_object_mut().and_then(|object| object.remove("stile_key_hash"));
    assert_eq!(hash, Some(json!("sha256")));
    let mut tyk: Value = serde_json::from_str(TYK).expect("it is JSON");
    tyk["date_created"] = json!("2026-11-23T01:20:00.511Z");
    assert_eq!(written, tyk);
}

#[test]
fn unknown_fields_survive() {
    let json = json!({
        "org_id": "o", "hmac_string": "s", "basic_auth_data": { "password": "p" }, "later": [1, 2.5, null],
        "smoothing": { "enabled": false, "threshold": 3 },
        "access_rights": { "a": { "api_id": "a", "field_access_rights": [], "limit": { "rate": 3, "per": 1, "new": 1 } } },
    });
    let session = read(json.to_string().as_bytes()).expect("it is a session");
    let again = read(&write(&session, HashAlgorithm::Sha256)).expect("we wrote it");
    assert_eq!(again, session);
    let names: Vec<&str> = session.extra.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["basic_auth_data", "hmac_string", "later", "smoothing"]);
    let written: Value = serde_json::from_slice(&write(&session, HashAlgorithm::Sha256)).expect("it is JSON");
    assert_eq!(written["access_rights"]["a"]["limit"]["new"], json!(1));
    assert_eq!(written["access_rights"]["a"]["limit"]["rate"], json!(3));
    assert_eq!(written["later"], json["later"]);
}

#[test]
fn every_field_survives() {
    let rate = Rate {
        requests: 2.5,
        per_seconds: 60.0,
        throttle_interval: 0.5,
        throttle_retries: 3,
        smoothing: Some(RateSmoothing { threshold: 5, trigger: 0.5, step: 2, delay_seconds: 30 }),
    };
    let quota = Quota { max: 10, remaining: 4, renews: 1_795_400_400, renewal_rate: 60 };
    let right = AccessRight {
        api_id: "a".to_owned(),
        rate: Some(rate),
        quota: Some(quota),
        max_query_depth: Some(-1),
        allowance_scope: "s".to_owned(),
        endpoints: vec![
            EndpointLimit { path: "/x".to_owned(), method: "GET".to_owned(), rate },
            EndpointLimit { path: "/x".to_owned(), method: "PUT".to_owned(), rate },
            EndpointLimit { path: "/y".to_owned(), method: "GET".to_owned(), rate },
        ],
        ..AccessRight::default()
    };
    let session = Session {
        organisation: "o".to_owned(),
        alias: "bob".to_owned(),
        metadata: [("a".to_owned(), json!({ "b": [1] }))].into(),
        rate,
        quota,
        access_rights: vec![right],
        policies: vec!["p".to_owned()],
        expires: 5,
        inactive: true,
        lifetime_seconds: 6,
        id_extractor_deadline: 7,
        post_expiry_action: PostExpiryAction::Delete,
        post_expiry_grace_period: -1,
        data_expires: 8,
        detailed_recording: true,
        monitor_trigger_limits: vec![80.0, 92.5],
        max_query_depth: 9,
        oauth_client_id: "c".to_owned(),
        certificate: "f".to_owned(),
        mtls_certificate_bindings: vec!["g".to_owned()],
        hmac_enabled: true,
        http_signature_validation: true,
        rsa_certificate_id: "r".to_owned(),
        created_ms: 1,
        last_updated: "2".to_owned(),
        ..Session::default()
    };
    assert_eq!(read(&write(&session, HashAlgorithm::Sha256)), Ok(session));
}

#[test]
fn extra_cannot_bring_in_a_field_of_ours() {
    let extra = ["is_inactive", "rate", "apply_policies", "expires", "note"];
    let extra = extra.map(|name| (name.to_owned(), b"1".to_vec())).to_vec();
    let session = Session { extra, ..Session::default() };
    let again = read(&write(&session, HashAlgorithm::Sha256)).expect("we wrote it");
    assert_eq!(again, Session { extra: vec![("note".to_owned(), b"1".to_vec())], ..Session::default() });
}

#[test]
fn a_field_of_the_wrong_type_is_refused() {
    for json in ["", "[]", "{", r#"{"rate":"x"}"#, r#"{"tags":[1]}"#, r#"{"access_rights":{"a":1}}"#, r#"{"alias":1}"#]
    {
        assert!(read(json.as_bytes()).is_err(), "{json}");
    }
}
