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
