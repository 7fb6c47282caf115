//! What a caller of the control port sends: path, query, body, each under a limit.

use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use percent_encoding::percent_decode_str;

use super::answer::Refusal;
use crate::store::Cursor;

/// What a path below `/tyk/` or `/stile/` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// `/tyk/keys/create`.
    KeyCreate,
    /// `/tyk/keys`.
    Keys,
    /// `/tyk/keys/{key}`.
    Key(String),
    /// `/tyk/policies`.
    Policies,
    /// `/tyk/policies/{id}`.
    Policy(String),
    /// `/stile/reload` and, for all gateways of the store, `/stile/reload/group`; the same below `/tyk/`.
    Reload {
        /// Whether other gateways are told.
        group: bool,
    },
    /// `/stile/plugins`.
    Plugins,
    /// `/stile/plugins/{name}/release`.
    Release(String),
    /// `/stile/apis`.
    Apis,
}

impl Target {
    /// Reads a path. An escaped slash is part of a name.
    pub(super) fn parse(path: &str) -> Result<Self, Refusal> {
        let path = path.strip_suffix('/').unwrap_or(path);
        match path {
            "/stile/reload" | "/tyk/reload" => return Ok(Self::Reload { group: false }),
            "/stile/reload/group" | "/tyk/reload/group" => return Ok(Self::Reload { group: true }),
            "/stile/plugins" => return Ok(Self::Plugins),
            "/stile/apis" => return Ok(Self::Apis),
            _ => {}
        }
        let of_plugin = path.strip_prefix("/stile/plugins/").and_then(|rest| rest.strip_suffix("/release"));
        if let Some(name) = of_plugin.filter(|name| !name.contains('/')) {
            return decoded(name).map(Self::Release);
        }
        let path = path.strip_prefix("/tyk/").ok_or(Refusal::NotFound(THERE_IS))?;
        match path.split_once('/') {
            None if path == "keys" => Ok(Self::Keys),
            None if path == "policies" => Ok(Self::Policies),
            Some(("keys", "create")) => Ok(Self::KeyCreate),
            Some(("keys", name)) if !name.contains('/') => decoded(name).map(Self::Key),
            Some(("policies", name)) if !name.contains('/') => decoded(name).map(Self::Policy),
            _ => Err(Refusal::NotFound(THERE_IS)),
        }
    }

    /// The methods that it takes.
    pub(super) const fn methods(&self) -> &'static str {
        match self {
            Self::KeyCreate | Self::Release(_) => "POST",
            Self::Keys | Self::Policies => "GET, POST",
            Self::Plugins | Self::Apis => "GET",
            // As in Tyk, which reloads for a `GET`.
            Self::Reload { .. } => "GET, POST",
            Self::Key(_) | Self::Policy(_) => "GET, POST, PUT, DELETE",
        }
    }
}

const THERE_IS: &str = "not found; there are /tyk/keys, /tyk/policies, /stile/reload, /stile/reload/group, /stile/plugins, \
                        /stile/plugins/{name}/release, /stile/apis";

fn decoded(name: &str) -> Result<String, Refusal> {
    let name = percent_decode_str(name).decode_utf8().map_err(|_| Refusal::Invalid(NAME.to_owned()))?;
    let is_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control);
    if is_name { Ok(name.into_owned()) } else { Err(Refusal::Invalid(NAME.to_owned())) }
}

/// The words after `?`.
pub(super) struct Query<'u>(&'u str);

impl<'u> Query<'u> {
    pub(super) fn of(uri: &'u Uri) -> Self {
        Self(uri.query().unwrap_or_default())
    }

    /// The first value of a name; none where it is empty.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let mut pairs = self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let (_, value) = pairs.find(|(found, _)| *found == name)?;
        let value = value.replace('+', " ");
        percent_decode_str(&value).decode_utf8().ok().map(|value| value.into_owned()).filter(|value| !value.is_empty())
    }

    /// Whether the key in the path is a hash. As in Tyk, any value says so; but for those that say no.
    pub(super) fn is_hashed(&self) -> bool {
        self.get("hashed").is_some_and(|value| !matches!(value.as_str(), "0" | "false"))
    }

    /// Whether what was used of the quota stays used.
    pub(super) fn keeps_quota(&self) -> bool {
        self.get("suppress_reset").is_some_and(|value| value == "1")
    }

    /// Whether a session is meant as it is kept, without its policies.
    pub(super) fn is_of_stored(&self) -> bool {
        self.get("stored").is_some_and(|value| value == "1")
    }

    /// Which part of a list: from where, and how many.
    pub(super) fn part(&self) -> Result<(Option<Cursor>, usize), Refusal> {
        let limit = match self.get("limit") {
            None => LIST_DEFAULT,
            Some(text) => (text.parse().ok())
                .filter(|limit| (1..=LIST_MAX).contains(limit))
                .ok_or_else(|| Refusal::Invalid(format!("`limit` is not a number from 1 to {LIST_MAX}")))?,
        };
        let cursor = match self.get("cursor") {
            None => None,
            Some(text) => Some(Cursor::parse(&text).ok_or_else(|| Refusal::Invalid("`cursor` is none".to_owned()))?),
        };
        Ok((cursor, limit))
    }
}

/// Reads a body to its end.
pub(super) async fn body<B>(body: B, bytes_max: usize) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Refusal::TooLarge);
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, Box::pin(Limited::new(body, bytes_max)).collect());
    match read.await {
        Err(_) => Err(Refusal::TooSlow),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge),
        Ok(Err(_)) => Err(Refusal::Broken),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
    }
}

const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Records in one part of a list.
const LIST_MAX: usize = 1_000;
const LIST_DEFAULT: usize = 1_000;
const NAME_BYTES_MAX: usize = 1_024;
const NAME: &str = "the name in the path is not 1 to 1024 bytes of text";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<Target>) {
        assert_eq!(Target::parse(path).ok(), expected, "{path}");
    }

    #[test]
    fn paths_name_keys_policies_and_what_is_loaded() {
        check("/tyk/keys", Some(Target::Keys));
        check("/tyk/keys/", Some(Target::Keys));
        check("/tyk/keys/create", Some(Target::KeyCreate));
        check("/tyk/keys/a%2Fb%20c", Some(Target::Key("a/b c".to_owned())));
        check("/tyk/policies", Some(Target::Policies));
        check("/tyk/policies/gold", Some(Target::Policy("gold".to_owned())));
        check("/tyk/reload/", Some(Target::Reload { group: false }));
        check("/stile/reload/group", Some(Target::Reload { group: true }));
        check("/stile/plugins", Some(Target::Plugins));
        check("/stile/apis", Some(Target::Apis));
        for path in ["", "key", "keys/a/b", "keys/%ff", "keys/a%00", "policies/a/b", "apis", "keys//"] {
            check(&format!("/tyk/{path}"), None);
            check(&format!("/stile/{path}"), (path == "apis").then_some(Target::Apis));
        }
    }

    // limit: admin::request::NAME_BYTES_MAX
    #[test]
    fn a_name_has_so_many_bytes() {
        let name = "a".repeat(NAME_BYTES_MAX);
        check(&format!("/tyk/keys/{name}"), Some(Target::Key(name.clone())));
        check(&format!("/tyk/keys/{name}a"), None);
    }

    #[test]
    fn a_path_names_the_plugin_to_release() {
        check("/stile/plugins/", Some(Target::Plugins));
        check("/stile/plugins/a%2Eb/release", Some(Target::Release("a.b".to_owned())));
        for path in ["/stile/plugins//release", "/stile/plugins/a/b/release", "/stile/plugins/a", "/stile/release"] {
            check(path, None);
        }
    }

    // limit: admin::request::LIST_MAX
    #[test]
    fn a_query_is_read() {
        let uri: Uri =
            "/x?hashed=true&suppress_reset=1&org_id=a%20b+c&empty=&limit=5&cursor=ab".parse().expect("a URI");
        let query = Query::of(&uri);
        assert!(query.is_hashed() && query.keeps_quota());
        assert_eq!(query.get("org_id").as_deref(), Some("a b c"));
        assert_eq!((query.get("empty"), query.get("none")), (None, None));
        let (cursor, limit) = query.part().expect("they are good");
        assert_eq!((cursor.as_ref().map(Cursor::as_str), limit), (Some("ab"), 5));
        let uri: Uri = "/x?limit=1000".parse().expect("a URI");
        assert_eq!(Query::of(&uri).part().map(|(_, limit)| limit).ok(), Some(LIST_MAX));
        for bad in ["/x?limit=0", "/x?limit=1001", "/x?limit=a", "/x?cursor=%00"] {
            let uri: Uri = bad.parse().expect("a URI");
            assert!(Query::of(&uri).part().is_err(), "{bad}");
        }
        let uri: Uri = "/x?hashed=false".parse().expect("a URI");
        assert!(!Query::of(&uri).is_hashed());
    }
}
