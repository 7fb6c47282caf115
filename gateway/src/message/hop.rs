//! Header fields of one connection (RFC 9110, section 7.6.1): never forwarded, never a plugin's.

use http::HeaderName;
use http::header;

/// Whether a plugin may never set or remove the field: it belongs to a connection, or frames or routes the message.
pub fn is_connection_field(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::CONTENT_LENGTH
            | header::EXPECT
            | header::HOST
            | header::PROXY_AUTHENTICATE
            | header::PROXY_AUTHORIZATION
            | header::TE
            | header::TRAILER
            | header::TRANSFER_ENCODING
            | header::UPGRADE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}
