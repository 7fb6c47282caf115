//! APIs and uses of plugins, in the words of the configuration file.

use serde_json::{Map, Value, json};

use crate::Upstream;

/// An API that listens on `/` followed by its id.
#[must_use]
pub fn api(id: &str) -> Api {
    let mut fields = Map::new();
    fields.insert("id".to_owned(), id.into());
    fields.insert("listen".to_owned(), json!({ "path": format!("/{id}/") }));
    Api { fields: Value::Object(fields), plugins: Vec::new() }
}

/// A use of a plugin, for what is more than its name.
#[must_use]
pub fn plugin(name: &str) -> Use {
    Use { name: name.to_owned(), fields: json!({ "plugin": name }) }
}

/// One API.
#[derive(Debug, Clone)]
pub struct Api {
    pub(crate) fields: Value,
    /// Names of the plugins that it uses.
    pub(crate) plugins: Vec<String>,
}

/// One use of a plugin.
#[derive(Debug, Clone)]
pub struct Use {
    name: String,
    fields: Value,
}

impl Api {
    /// Sends requests there.
    #[must_use]
    pub fn upstream(self, upstream: &Upstream) -> Self {
        self.upstream_url(&upstream.url())
    }

    /// Sends requests there.
    #[must_use]
    pub fn upstream_url(self, url: &str) -> Self {
        self.set("/upstream/url", url)
    }

    /// Listens on this path.
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        self.set("/listen/path", path)
    }

    /// Answers to these hosts only.
    #[must_use]
    pub fn hosts<const N: usize>(self, hosts: [&str; N]) -> Self {
        self.set("/listen/hosts", json!(hosts.as_slice()))
    }

    /// Takes the listen path off before the upstream.
    #[must_use]
    pub fn strip(self) -> Self {
        self.set("/listen/strip", true)
    }

    /// Records requests.
    #[must_use]
    pub fn recorded(self) -> Self {
        self.set("/analytics/enabled", true)
    }

    /// Records requests in detail.
    #[must_use]
    pub fn detailed(self) -> Self {
        self.set("/analytics", json!({ "enabled": true, "detailed": true }))
    }

    /// Uses a plugin at `pre`.
    #[must_use]
    pub fn pre(self, used: impl Into<Use>) -> Self {
        self.hook("pre", used)
    }

    /// Authenticates with a plugin; the credential is in `authorization`.
    #[must_use]
    pub fn auth(mut self, used: impl Into<Use>) -> Self {
        let used = used.into();
        self.plugins.push(used.name);
        self.set("/auth", used.fields)
    }

    /// Uses a plugin at `post_auth`.
    #[must_use]
    pub fn post_auth(self, used: impl Into<Use>) -> Self {
        self.hook("post_auth", used)
    }

    /// Uses a plugin at an endpoint.
    #[must_use]
    pub fn endpoint(self, method: &str, path: &str, used: impl Into<Use>) -> Self {
        self.hook("endpoint", used.into().set("method", method).set("path", path))
    }

    /// Uses a plugin at `post`.
    #[must_use]
    pub fn post(self, used: impl Into<Use>) -> Self {
        self.hook("post", used)
    }

    /// Uses a plugin at `response`.
    #[must_use]
    pub fn response(self, used: impl Into<Use>) -> Self {
        self.hook("response", used)
    }

    /// Uses a plugin at `analytics`.
    #[must_use]
    pub fn analytics(self, used: impl Into<Use>) -> Self {
        self.hook("analytics", used)
    }

    /// Uses a plugin at the hook of this name; an endpoint is every path, and `auth` the API's own.
    #[must_use]
    pub fn hook(mut self, hook: &str, used: impl Into<Use>) -> Self {
        let mut used = used.into();
        if hook == "auth" {
            return self.auth(used);
        }
        if hook == "endpoint" && used.fields.get("path").is_none() {
            used = used.set("path", "/{rest}");
        }
        self.plugins.push(used.name.clone());
        let place = format!("/hooks/{hook}");
        match self.fields.pointer_mut(&place).and_then(Value::as_array_mut) {
            Some(uses) => {
                uses.push(used.fields);
                self
            }
            None => self.set(&place, json!([used.fields])),
        }
    }

    /// Sets any key, by its path with slashes.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        put(&mut self.fields, path, value.into());
        self
    }
}

impl Use {
    /// Calls this function.
    #[must_use]
    pub fn function(self, name: &str) -> Self {
        self.set("function", name)
    }

    /// Configures it.
    #[must_use]
    pub fn config(self, config: Value) -> Self {
        self.set("config", config)
    }

    /// Goes on when it fails.
    #[must_use]
    pub fn or_continue(self) -> Self {
        self.set("on_failure", "continue")
    }

    /// Sees the upstream's answers only.
    #[must_use]
    pub fn of_upstream(self) -> Self {
        self.set("answers", "upstream")
    }

    /// Sets any key.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        put(&mut self.fields, &format!("/{key}"), value.into());
        self
    }
}

impl From<&str> for Use {
    fn from(name: &str) -> Self {
        plugin(name)
    }
}

/// Sets a value inside another, making what is on the way.
pub(crate) fn put(target: &mut Value, path: &str, value: Value) {
    let mut place = target;
    for key in path.trim_start_matches('/').split('/') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Some(fields) = place.as_object_mut() else { return };
        place = fields.entry(key).or_insert(Value::Null);
    }
    *place = value;
}
