//! The analytics record of one request.
//!
//! Fields follow Tyk's analytics record; the sinks turn it into their own shapes.

use std::net::IpAddr;

/// What is recorded of one request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    /// Names the request in logs.
    pub request_id: String,
    /// The request's method.
    pub method: String,
    /// The host that the caller addressed.
    pub host: String,
    /// The tracked path: the endpoint's template where there is one.
    pub path: String,
    /// The path sent to the upstream.
    pub raw_path: String,
    /// The path as the caller sent it.
    pub original_path: String,
    /// The API's listen path.
    pub listen_path: String,
    /// The query, without `?`.
    pub query: String,
    /// Bytes of the request's body; -1 when not known.
    pub content_length: i64,
    /// The caller's software.
    pub user_agent: String,
    /// The answer's status.
    pub response_code: u16,
    /// The caller's key, in plain text; sinks hash it.
    pub api_key: String,
    /// When the request came, in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// Version of the API.
    pub api_version: String,
    /// Name of the API.
    pub api_name: String,
    /// Id of the API.
    pub api_id: String,
    /// Organisation of the API.
    pub organisation: String,
    /// OAuth client of the session.
    pub oauth_id: String,
    /// Milliseconds from the first byte of the request to the last of the response.
    pub request_time_ms: u64,
    /// The same, as latency.
    pub latency_total_ms: u64,
    /// Milliseconds spent waiting for the upstream's answer.
    pub latency_upstream_ms: u64,
    /// The rest.
    pub latency_gateway_ms: u64,
    /// The caller's address, as text: a plugin may mask it.
    pub ip_address: String,
    /// Where the caller is.
    pub geo: Option<Geo>,
    /// Connections opened for the request.
    pub open_connections: i64,
    /// Connections closed after it.
    pub closed_connections: i64,
    /// Body bytes from the caller.
    pub bytes_in: u64,
    /// Body bytes to the caller.
    pub bytes_out: u64,
    /// Tags of the session and the API.
    pub tags: Vec<String>,
    /// Alias of the session.
    pub alias: String,
    /// Whether the endpoint is tracked.
    pub track_path: bool,
    /// Milliseconds since 1970 after which the record may go; zero leaves it to the store.
    pub expires_ms: u64,
    /// The request, where the API records in detail.
    pub request: Option<RecordedMessage>,
    /// The response, where the API records in detail.
    pub response: Option<RecordedMessage>,
    /// What this version has no field for.
    pub extra: Vec<(String, Vec<u8>)>,
}

/// A recorded message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordedMessage {
    /// Header fields, names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, or its beginning.
    pub body: Option<Vec<u8>>,
    /// Whether the body was longer than the recording limit.
    pub truncated: bool,
}

/// A place on earth.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Geo {
    /// Two letters.
    pub country_iso_code: String,
    /// Id of the city in GeoNames.
    pub city_geoname_id: u32,
    /// Its names by language.
    pub city_names: Vec<(String, String)>,
    /// Degrees.
    pub latitude: f64,
    /// Degrees.
    pub longitude: f64,
    /// A name of the IANA time zone database.
    pub time_zone: String,
}

/// One change of a record, checked.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordEdit {
    /// Sets the tracked path.
    SetPath(String),
    /// Sets the upstream's path.
    SetRawPath(String),
    /// Sets the caller's path.
    SetOriginalPath(String),
    /// Sets the query.
    SetQuery(String),
    /// Sets the host.
    SetHost(String),
    /// Sets the user agent.
    SetUserAgent(String),
    /// Sets the key.
    SetApiKey(String),
    /// Sets the OAuth client.
    SetOauthId(String),
    /// Sets the caller's address.
    SetIpAddress(String),
    /// Sets or removes the place.
    SetGeo(Option<Geo>),
    /// Sets the alias.
    SetAlias(String),
    /// Adds a tag, once.
    AddTag(String),
    /// Removes a tag.
    RemoveTag(String),
    /// Replaces a header field of the recorded request.
    SetRequestHeader(String, Vec<u8>),
    /// Removes a header field of the recorded request.
    RemoveRequestHeader(String),
    /// Replaces or removes the recorded request's body.
    SetRequestBody(Option<Vec<u8>>),
    /// Replaces a header field of the recorded response.
    SetResponseHeader(String, Vec<u8>),
    /// Removes a header field of the recorded response.
    RemoveResponseHeader(String),
    /// Replaces or removes the recorded response's body.
    SetResponseBody(Option<Vec<u8>>),
    /// Sets when the record may go.
    SetExpiresMs(u64),
}

impl Record {
    /// The caller's address as a record writes it.
    pub fn address(ip: IpAddr) -> String {
        ip.to_canonical().to_string()
    }

    /// Applies one change.
    pub fn apply(&mut self, edit: RecordEdit) {
        match edit {
            RecordEdit::SetPath(path) => self.path = path,
            RecordEdit::SetRawPath(path) => self.raw_path = path,
            RecordEdit::SetOriginalPath(path) => self.original_path = path,
            RecordEdit::SetQuery(query) => self.query = query,
            RecordEdit::SetHost(host) => self.host = host,
            RecordEdit::SetUserAgent(agent) => self.user_agent = agent,
            RecordEdit::SetApiKey(key) => self.api_key = key,
            RecordEdit::SetOauthId(id) => self.oauth_id = id,
            RecordEdit::SetIpAddress(address) => self.ip_address = address,
            RecordEdit::SetGeo(geo) => self.geo = geo,
            RecordEdit::SetAlias(alias) => self.alias = alias,
            RecordEdit::AddTag(tag) => {
                if !self.tags.contains(&tag) {
                    self.tags.push(tag);
                }
            }
            RecordEdit::RemoveTag(tag) => self.tags.retain(|t| *t != tag),
            RecordEdit::SetRequestHeader(name, value) => set_header(&mut self.request, name, value),
            RecordEdit::RemoveRequestHeader(name) => remove_header(&mut self.request, &name),
            RecordEdit::SetRequestBody(body) => set_body(&mut self.request, body),
            RecordEdit::SetResponseHeader(name, value) => set_header(&mut self.response, name, value),
            RecordEdit::RemoveResponseHeader(name) => remove_header(&mut self.response, &name),
            RecordEdit::SetResponseBody(body) => set_body(&mut self.response, body),
            RecordEdit::SetExpiresMs(expires) => self.expires_ms = expires,
        }
    }
}

/// A message that was not recorded takes no change: a plugin masks, it does not invent.
fn set_header(message: &mut Option<RecordedMessage>, name: String, value: Vec<u8>) {
    if let Some(message) = message {
        message.headers.retain(|(n, _)| *n != name);
        message.headers.push((name, value));
    }
}

fn remove_header(message: &mut Option<RecordedMessage>, name: &str) {
    if let Some(message) = message {
        message.headers.retain(|(n, _)| n != name);
    }
}

fn set_body(message: &mut Option<RecordedMessage>, body: Option<Vec<u8>>) {
    if let Some(message) = message {
        message.body = body;
    }
}
