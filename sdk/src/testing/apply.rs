//! Applies a plugin's changes, as the gateway does.

use crate::{
    guest::contract::PluginDescription,
    testing::Call,
    types::{
        AnalyticsRecord, Header, RecordEdit, RecordedMessage, Reply, RequestEdit, ResponseEdit, Session, SessionEdit,
    },
};

#[track_caller]
pub(super) fn apply_request(plugin: &PluginDescription, call: &mut Call, edits: Vec<RequestEdit>) {
    for edit in edits {
        match edit {
            RequestEdit::SetMethod(method) => call.method = method,
            RequestEdit::SetPath(path) => {
                assert!(path.starts_with('/') && !path.contains(['?', '#']), "not a path: `{path}`");
                call.path = path;
            }
            RequestEdit::SetQuery(query) => call.query = query,
            RequestEdit::SetQueryParam((name, value)) => {
                remove_param(call, &name);
                append_param(call, &name, &value);
            }
            RequestEdit::AppendQueryParam((name, value)) => append_param(call, &name, &value),
            RequestEdit::RemoveQueryParam(name) => remove_param(call, &name),
            RequestEdit::SetHeader(header) => set(&mut call.headers, header),
            RequestEdit::AppendHeader(header) => call.headers.push(header),
            RequestEdit::RemoveHeader(name) => remove(&mut call.headers, &name),
            RequestEdit::SetBody(body) => call.body = body,
            RequestEdit::SetUpstream(upstream) => {
                demand(plugin, "upstream");
                call.upstream = Some(upstream);
            }
            RequestEdit::SetVar(var) => set(&mut call.vars, var),
            RequestEdit::RemoveVar(name) => remove(&mut call.vars, &name),
        }
    }
}

#[track_caller]
pub(super) fn apply_session(plugin: &PluginDescription, call: &mut Call, edits: Vec<SessionEdit>) {
    let Some(session) = &mut call.session else { return };
    if edit_session(session, edits) {
        demand(plugin, "session-limits");
    }
}

/// Changes the session. Whether the capability `session-limits` is needed for that.
pub(super) fn edit_session(session: &mut Session, edits: Vec<SessionEdit>) -> bool {
    let mut needs_limits = false;
    for edit in edits {
        match edit {
            SessionEdit::SetMetadata((name, value)) => {
                session.metadata.retain(|(found, _)| *found != name);
                session.metadata.push((name, value));
                continue;
            }
            SessionEdit::RemoveMetadata(name) => {
                session.metadata.retain(|(found, _)| *found != name);
                continue;
            }
            SessionEdit::AddTag(tag) => {
                session.tags.push(tag);
                continue;
            }
            SessionEdit::RemoveTag(tag) => {
                session.tags.retain(|found| *found != tag);
                continue;
            }
            SessionEdit::SetAlias(alias) => {
                session.alias = alias;
                continue;
            }
            SessionEdit::SetRate(rate) => session.rate = rate,
            SessionEdit::SetQuota(quota) => session.quota = quota,
            SessionEdit::SetAccessRights(rights) => session.access_rights = rights,
            SessionEdit::SetPolicies(policies) => session.policies = policies,
            SessionEdit::SetExpires(expires) => session.expires = expires,
            SessionEdit::SetInactive(inactive) => session.inactive = inactive,
        }
        needs_limits = true;
    }
    needs_limits
}

pub(super) fn apply_reply(reply: &mut Reply, call: &mut Call, edits: Vec<ResponseEdit>) {
    for edit in edits {
        match edit {
            ResponseEdit::SetStatus(status) => reply.status = status,
            ResponseEdit::SetHeader(header) => set(&mut reply.headers, header),
            ResponseEdit::AppendHeader(header) => reply.headers.push(header),
            ResponseEdit::RemoveHeader(name) => remove(&mut reply.headers, &name),
            ResponseEdit::SetBody(body) => reply.body = body,
            ResponseEdit::SetVar(var) => set(&mut call.vars, var),
            ResponseEdit::RemoveVar(name) => remove(&mut call.vars, &name),
        }
    }
}

pub(super) fn apply_record(mut record: AnalyticsRecord, edits: Vec<RecordEdit>) -> AnalyticsRecord {
    fn recorded(message: &mut Option<RecordedMessage>) -> &mut RecordedMessage {
        message.get_or_insert_with(|| RecordedMessage { headers: Vec::new(), body: None, truncated: false })
    }
    for edit in edits {
        match edit {
            RecordEdit::SetPath(path) => record.path = path,
            RecordEdit::SetRawPath(path) => record.raw_path = path,
            RecordEdit::SetOriginalPath(path) => record.original_path = path,
            RecordEdit::SetQuery(query) => record.query = query,
            RecordEdit::SetHost(host) => record.host = host,
            RecordEdit::SetUserAgent(agent) => record.user_agent = agent,
            RecordEdit::SetApiKey(key) => record.api_key = key,
            RecordEdit::SetOauthId(id) => record.oauth_id = id,
            RecordEdit::SetIpAddress(address) => record.ip_address = address,
            RecordEdit::SetGeo(geo) => record.geo = geo,
            RecordEdit::SetAlias(alias) => record.alias = alias,
            RecordEdit::AddTag(tag) => record.tags.push(tag),
            RecordEdit::RemoveTag(tag) => record.tags.retain(|found| *found != tag),
            RecordEdit::SetRequestHeader(header) => set(&mut recorded(&mut record.request).headers, header),
            RecordEdit::RemoveRequestHeader(name) => remove(&mut recorded(&mut record.request).headers, &name),
            RecordEdit::SetRequestBody(body) => recorded(&mut record.request).body = body,
            RecordEdit::SetResponseHeader(header) => set(&mut recorded(&mut record.response).headers, header),
            RecordEdit::RemoveResponseHeader(name) => remove(&mut recorded(&mut record.response).headers, &name),
            RecordEdit::SetResponseBody(body) => recorded(&mut record.response).body = body,
            RecordEdit::SetExpiresMs(expires_ms) => record.expires_ms = expires_ms,
        }
    }
    record
}

fn set(values: &mut Vec<Header>, value: Header) {
    remove(values, &value.0);
    values.push(value);
}

fn remove(values: &mut Vec<Header>, name: &str) {
    values.retain(|(found, _)| found != name);
}

/// Tests that look at the query as text get what a browser would send.
fn append_param(call: &mut Call, name: &str, value: &str) {
    let query = call.query.get_or_insert_default();
    if !query.is_empty() {
        query.push('&');
    }
    *query += &format!("{}={}", encode(name), encode(value));
}

fn remove_param(call: &mut Call, name: &str) {
    let Some(query) = &mut call.query else { return };
    let name = encode(name);
    let kept: Vec<_> = query.split('&').filter(|pair| pair.split('=').next() != Some(&name)).collect();
    *query = kept.join("&");
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[track_caller]
fn demand(plugin: &PluginDescription, capability: &str) {
    assert!(
        plugin.capabilities.iter().any(|asked| asked.name == capability),
        "the plugin needs `{capability}` without asking: add `#[plugin(capabilities({} = \"why\"))]`",
        capability.replace('-', "_"),
    );
}
