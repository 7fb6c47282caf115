//! Sizes of what guests return that nobody sets: so much is taken, one more is not.

use super::*;

/// So many bytes.
fn text(bytes: usize) -> String {
    "a".repeat(bytes)
}

// limit: plugin::v0_1::lift::LIST_MAX
#[test]
fn a_list_has_so_many_items() {
    assert!(check_count(LIST_MAX, "edits").is_ok());
    assert!(check_count(LIST_MAX + 1, "edits").is_err());
}

// limit: plugin::v0_1::lift::TEXT_BYTES_MAX
#[test]
fn a_text_has_so_many_bytes() {
    assert!(short(text(TEXT_BYTES_MAX)).is_ok() && short(text(TEXT_BYTES_MAX + 1)).is_err());
    assert!(var(text(1), vec![0; TEXT_BYTES_MAX]).is_ok() && var(text(1), vec![0; TEXT_BYTES_MAX + 1]).is_err());
    // A URI is no longer than that, with what comes before: see `Uri`.
    assert!(request_path(&format!("/{}", text(TEXT_BYTES_MAX - 3))).is_ok());
    assert!(request_path(&format!("/{}", text(TEXT_BYTES_MAX))).is_err());
    assert!(query(text(TEXT_BYTES_MAX - 4)).is_ok() && query(text(TEXT_BYTES_MAX + 1)).is_err());
}

// limit: plugin::v0_1::lift::METHOD_BYTES_MAX
#[test]
fn a_method_has_so_many_bytes() {
    let method = |bytes| method(types::MethodResult::Other(text(bytes)));
    assert!(method(METHOD_BYTES_MAX).is_ok() && method(METHOD_BYTES_MAX + 1).is_err());
}

// limit: plugin::v0_1::lift::VAR_NAME_BYTES_MAX
#[test]
fn a_variable_has_a_name_of_so_many_bytes() {
    assert!(var(text(VAR_NAME_BYTES_MAX), Vec::new()).is_ok());
    assert!(var(text(VAR_NAME_BYTES_MAX + 1), Vec::new()).is_err());
}

/// What a plugin says of itself: so many functions and metrics, with names of so many bytes.
fn described(functions: usize, metrics: usize, name: usize, metric_name: usize) -> bool {
    use hooks::description as d;
    let function = |number: usize| d::Function {
        hook: d::Hook::Pre,
        name: number.to_string(),
        reads: d::Reads {
            headers: d::HeaderSelection::None,
            body: d::BodyRead::None,
            request_headers: d::HeaderSelection::None,
            session: false,
            context: d::ContextFields::empty(),
        },
    };
    let metric = |number: usize| d::Metric {
        name: format!("{number:a>metric_name$}"),
        kind: d::MetricKind::Counter,
        help: String::new(),
    };
    let raw = d::PluginDescription {
        name: text(name),
        version: "1".to_owned(),
        functions: (0..functions).map(function).collect(),
        capabilities: Vec::new(),
        metrics: (0..metrics).map(metric).collect(),
        config_schema: None,
    };
    description(raw).is_ok()
}

// limit: plugin::v0_1::lift::FUNCTIONS_MAX
// limit: plugin::v0_1::lift::METRICS_MAX
// limit: plugin::v0_1::lift::NAME_BYTES_MAX
// limit: plugin::v0_1::lift::METRIC_NAME_BYTES_MAX
#[test]
fn a_plugin_says_so_much_of_itself() {
    assert!(described(FUNCTIONS_MAX, METRICS_MAX, NAME_BYTES_MAX, METRIC_NAME_BYTES_MAX));
    assert!(!described(FUNCTIONS_MAX + 1, 1, 1, 1));
    assert!(!described(1, METRICS_MAX + 1, 1, 1));
    assert!(!described(1, 1, NAME_BYTES_MAX + 1, 1));
    assert!(!described(1, 1, 1, METRIC_NAME_BYTES_MAX + 1));
}
