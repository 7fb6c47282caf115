//! Reads and changes stored sessions as the body of the request says, and answers what came of it.

use std::collections::BTreeMap;

use stile_sdk::{
    prelude::*,
    serde_json::{Value, json},
    types::{AccessRight, MetadataValue, Rate},
};

#[config]
struct Ask {
    /// The token of the session.
    token: String,
    /// So many times in front of itself: longer tokens than a test cares to send.
    #[serde(default)]
    repeat: usize,
    /// Reads it so often.
    #[serde(default)]
    read: usize,
    /// Changes it so.
    edit: Option<Edit>,
}

#[config]
#[derive(Default)]
#[serde(default)]
struct Edit {
    metadata: BTreeMap<String, String>,
    /// A value of the metadata of so many bytes.
    large: usize,
    tag: Option<String>,
    alias: Option<String>,
    rate: Option<f64>,
    inactive: Option<bool>,
    /// The APIs that it has rights to.
    apis: Option<Vec<String>>,
    policies: Option<Vec<String>>,
}

struct Stored;

#[plugin(capabilities(sessions = "does as it is told"))]
impl Stored {
    #[endpoint(body = 1 << 20)]
    fn ask(request: &mut Request) -> Result<Reply, String> {
        let ask: Ask = request.json().map_err(|error| error.to_string())?;
        let token = ask.token.repeat(ask.repeat + 1);
        let mut answer = json!({});
        for _ in 0..ask.read {
            answer["read"] =
                sessions::get(&token).map_or_else(|error| json!(format!("{error:?}")), |found| shown(&found));
        }
        if let Some(edit) = ask.edit {
            let updated = sessions::update(&token, |session| apply(edit, session));
            answer["edited"] = updated.map_or_else(|error| json!(format!("{error:?}")), |()| json!("ok"));
        }
        Reply::json(200, &answer).map_err(|error| error.to_string())
    }
}

fn apply(edit: Edit, session: &mut SessionEdits) {
    edit.metadata.into_iter().for_each(|(name, value)| session.set_metadata(name, value));
    if edit.large > 0 {
        session.set_metadata("large", "x".repeat(edit.large));
    }
    edit.tag.into_iter().for_each(|tag| session.add_tag(tag));
    edit.alias.into_iter().for_each(|alias| session.set_alias(alias));
    edit.rate.into_iter().for_each(|requests| session.set_rate(Rate::new(requests, 1.0)));
    edit.apis.into_iter().for_each(|ids| session.set_access_rights(ids.iter().map(AccessRight::to).collect()));
    edit.policies.into_iter().for_each(|ids| session.set_policies(ids));
    edit.inactive.into_iter().for_each(|inactive| session.set_inactive(inactive));
}

fn shown(session: &Session) -> Value {
    let text = |value: &MetadataValue| match value {
        MetadataValue::Text(text) | MetadataValue::Json(text) => text.clone(),
    };
    let metadata: BTreeMap<_, _> = session.metadata.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let rights: Vec<_> = session.access_rights.iter().map(|right| (&right.api_id, right.extra.len())).collect();
    json!({
        "alias": session.alias,
        "organisation": session.organisation,
        "tags": session.tags,
        "metadata": metadata,
        "rate": session.rate.requests,
        "inactive": session.inactive,
        "rights": rights,
        "policies": session.policies,
        "key_id": session.key_id,
        "extra": session.extra.len(),
    })
}
