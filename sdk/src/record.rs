//! The analytics record that a function is handed, and what it changes of it.

use std::ops::Deref;

use crate::{
    fields::lower,
    types::{AnalyticsRecord, Geo, Header, RecordEdit, RecordedMessage},
};

/// What is recorded of one request.
///
/// Its fields are those of [`AnalyticsRecord`], as they were received: later reads do not see changes. What identifies a
/// record (API, organisation, time, status, request id) cannot be changed.
#[derive(Debug)]
pub struct Record {
    received: AnalyticsRecord,
    edits: Vec<RecordEdit>,
}

impl Deref for Record {
    type Target = AnalyticsRecord;

    fn deref(&self) -> &AnalyticsRecord {
        &self.received
    }
}

macro_rules! set_text {
    ($($(#[$doc:meta])* $name:ident: $edit:ident;)*) => {
        $(
            $(#[$doc])*
            pub fn $name(&mut self, value: impl Into<String>) {
                self.edits.push(RecordEdit::$edit(value.into()));
            }
        )*
    };
}

impl Record {
    pub(crate) fn new(received: AnalyticsRecord) -> Self {
        Self { received, edits: Vec::new() }
    }

    /// The first value of a recorded request header named by `headers = […]`.
    #[must_use]
    pub fn request_header(&self, name: &str) -> Option<&[u8]> {
        header(self.received.request.as_ref()?, name)
    }

    /// The first value of a recorded response header named by `headers = […]`.
    #[must_use]
    pub fn response_header(&self, name: &str) -> Option<&[u8]> {
        header(self.received.response.as_ref()?, name)
    }

    /// The recorded request body, with `body`. It may be cut off: see [`RecordedMessage::truncated`].
    #[must_use]
    pub fn request_body(&self) -> Option<&[u8]> {
        self.received.request.as_ref()?.body.as_deref()
    }

    /// The recorded response body, with `body`. It may be cut off: see [`RecordedMessage::truncated`].
    #[must_use]
    pub fn response_body(&self) -> Option<&[u8]> {
        self.received.response.as_ref()?.body.as_deref()
    }

    set_text! {
        /// Replaces the tracked path.
        set_path: SetPath;
        /// Replaces the path sent to the upstream.
        set_raw_path: SetRawPath;
        /// Replaces the path as the caller sent it.
        set_original_path: SetOriginalPath;
        /// Replaces the query.
        set_query: SetQuery;
        /// Replaces the host.
        set_host: SetHost;
        /// Replaces the user agent.
        set_user_agent: SetUserAgent;
        /// Replaces the caller's key.
        set_api_key: SetApiKey;
        /// Replaces the OAuth client id.
        set_oauth_id: SetOauthId;
        /// Replaces the caller's address.
        set_ip_address: SetIpAddress;
        /// Replaces the session's alias.
        set_alias: SetAlias;
        /// Adds a tag.
        add_tag: AddTag;
        /// Takes a tag away.
        remove_tag: RemoveTag;
    }

    /// Replaces where the caller is; `None` removes it.
    pub fn set_geo(&mut self, geo: Option<Geo>) {
        self.edits.push(RecordEdit::SetGeo(geo));
    }

    /// Replaces every value of a recorded request header.
    pub fn set_request_header(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.edits.push(RecordEdit::SetRequestHeader((lower(name), value.into())));
    }

    /// Takes a recorded request header away.
    pub fn remove_request_header(&mut self, name: impl Into<String>) {
        self.edits.push(RecordEdit::RemoveRequestHeader(lower(name)));
    }

    /// Replaces the recorded request body; `None` removes it.
    pub fn set_request_body(&mut self, body: Option<Vec<u8>>) {
        self.edits.push(RecordEdit::SetRequestBody(body));
    }

    /// Replaces every value of a recorded response header.
    pub fn set_response_header(&mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.edits.push(RecordEdit::SetResponseHeader((lower(name), value.into())));
    }

    /// Takes a recorded response header away.
    pub fn remove_response_header(&mut self, name: impl Into<String>) {
        self.edits.push(RecordEdit::RemoveResponseHeader(lower(name)));
    }

    /// Replaces the recorded response body; `None` removes it.
    pub fn set_response_body(&mut self, body: Option<Vec<u8>>) {
        self.edits.push(RecordEdit::SetResponseBody(body));
    }

    /// Lets the record be deleted after this time, in milliseconds since 1970; zero leaves it to the store.
    pub fn set_expires_ms(&mut self, expires_ms: u64) {
        self.edits.push(RecordEdit::SetExpiresMs(expires_ms));
    }

    pub(crate) fn into_edits(self) -> Vec<RecordEdit> {
        self.edits
    }
}

fn header<'a>(message: &'a RecordedMessage, name: &str) -> Option<&'a [u8]> {
    let mut found = message.headers.iter().filter(|(found, _): &&Header| found.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.as_slice())
}
