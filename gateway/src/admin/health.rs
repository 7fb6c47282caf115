//! Health and metrics: for everybody who reaches the port.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::answer::{Answer, json_answer};
use super::{AdminState, PATHS, Readiness};

/// Answers a path that is not below `/tyk/` or `/stile/`.
pub(super) fn answer(method: &Method, path: &str, state: &AdminState) -> Answer {
    if !matches!(path, "/live" | "/ready" | "/metrics") {
        let error = format!("not found; there are {PATHS}");
        return json_answer(StatusCode::NOT_FOUND, &json!({ "error": error }));
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut answer = json_answer(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": "method not allowed" }));
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match path {
        "/live" => json_answer(StatusCode::OK, &json!({ "status": "alive" })),
        "/ready" => readiness(&(state.readiness)()),
        _ => {
            let mut answer: Response<Full<Bytes>> = Response::new(Full::from((state.metrics)()));
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            answer
        }
    }
}

fn readiness(readiness: &Readiness) -> Answer {
    let status = match (readiness.is_ready, readiness.is_draining) {
        (_, true) => "draining",
        (true, false) => "ready",
        (false, false) => "not ready",
    };
    let details: serde_json::Map<String, serde_json::Value> =
        readiness.details.iter().map(|(name, reason)| (name.clone(), reason.clone().into())).collect();
    let code = if readiness.is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_answer(code, &json!({ "status": status, "details": details }))
}
