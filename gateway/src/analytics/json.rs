//! A record as one line of JSON.
//!
//! A key never leaves in plain text: it is hashed here, as the last thing before it is stored.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::model::record::{Record, RecordedMessage};

/// The record on one line.
pub fn line(record: &Record) -> String {
    let mut value = json!({
        "request_id": record.request_id,
        "method": record.method,
        "host": record.host,
        "path": record.path,
        "raw_path": record.raw_path,
        "original_path": record.original_path,
        "listen_path": record.listen_path,
        "query": record.query,
        "content_length": record.content_length,
        "user_agent": record.user_agent,
        "response_code": record.response_code,
        "api_key_sha256": hashed(&record.api_key),
        "timestamp_ms": record.timestamp_ms,
        "api_version": record.api_version,
        "api_name": record.api_name,
        "api_id": record.api_id,
        "organisation": record.organisation,
        "oauth_id": record.oauth_id,
        "request_time_ms": record.request_time_ms,
        "latency": {
            "total_ms": record.latency_total_ms,
            "upstream_ms": record.latency_upstream_ms,
            "gateway_ms": record.latency_gateway_ms,
        },
        "ip_address": record.ip_address,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "tags": record.tags,
        "alias": record.alias,
        "track_path": record.track_path,
        "expires_ms": record.expires_ms,
        "request": record.request.as_ref().map(message),
        "response": record.response.as_ref().map(message),
    });
    if let (Some(geo), Some(fields)) = (&record.geo, value.as_object_mut()) {
        let place = json!({ "country": geo.country_iso_code, "time_zone": geo.time_zone,
            "latitude": geo.latitude, "longitude": geo.longitude, "city_geoname_id": geo.city_geoname_id });
        fields.insert("geo".to_owned(), place);
    }
    crate::telemetry::text::json_escaped(&value.to_string())
}

fn message(message: &RecordedMessage) -> Value {
    let headers: Vec<Value> = message.headers.iter().map(|(name, value)| json!([name, bytes(value)])).collect();
    json!({ "headers": headers, "body": message.body.as_deref().map(bytes), "truncated": message.truncated })
}

/// Text where it is text, otherwise an object that says so.
fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({ "hex": hex(bytes) }),
    }
}

fn hashed(key: &str) -> String {
    if key.is_empty() { String::new() } else { hex(&Sha256::digest(key.as_bytes())) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_and_never_holds_the_key() {
        let body = Some(vec![0xff, b'\n']);
        let request =
            Some(RecordedMessage { headers: vec![("a".to_owned(), b"b\nc".to_vec())], body, truncated: true });
        let record = Record { api_key: "secret-token".to_owned(), request, ..Record::default() };
        let line = line(&record);
        assert!(!line.contains('\n'));
        assert!(!line.contains("secret-token"));
        let value: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value.pointer("/request/headers/0"), Some(&json!(["a", "b\nc"])));
        assert_eq!(value.pointer("/request/body"), Some(&json!({ "hex": "ff0a" })));
    }
}
