//! The APIs of one snapshot: by host and path for requests of callers, by id for requests that come from requests.

use std::collections::HashMap;

use super::plan::Routed;
use crate::model::api::Listen;
use crate::model::id::ApiId;
use crate::router::{Conflict, Router};

/// The APIs of one snapshot.
pub struct Apis {
    routes: Router<Routed>,
    ids: HashMap<ApiId, (Listen, Routed)>,
}

impl Apis {
    /// Of all APIs, each with where it listens.
    ///
    /// # Errors
    /// Two of them listen on the same host and path.
    pub fn new(apis: Vec<(ApiId, Listen, Routed)>) -> Result<Self, Conflict> {
        let routes = Router::new(apis.iter().map(|(_, listen, routed)| (listen, routed.clone())))?;
        Ok(Self { routes, ids: apis.into_iter().map(|(id, listen, routed)| (id, (listen, routed))).collect() })
    }

    /// The API for a host and a canonical path, with what is left of the path.
    pub fn find<'p>(&self, host: &str, path: &'p str) -> Option<(&Routed, &'p str)> {
        self.routes.find(host, path)
    }

    /// The API of this id, with the whole path of a request for what is `below` its listen path, canonical too. A path that
    /// another API has taken is that API's here as it is from outside.
    pub fn named(&self, id: &ApiId, below: &str) -> Option<(&Routed, String)> {
        let (listen, routed) = self.ids.get(id)?;
        let below = below.strip_prefix('/')?;
        let path = format!("{}{below}", listen.path.as_str());
        let host = match listen.hosts.first() {
            Some(host) => host.strip_prefix('*').map_or_else(|| host.clone(), |parent| format!("any{parent}")),
            None => String::new(),
        };
        let (found, _) = self.routes.find(&host, &path)?;
        found.is(routed).then_some((routed, path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::path::ListenPath;

    fn apis(listens: &[(&str, &[&str], &str)]) -> Apis {
        let of = |(id, hosts, path): &(&str, &[&str], &str)| {
            let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
            let listen = Listen { path: ListenPath::parse(path).expect("a path"), hosts, strip: true };
            (ApiId::parse(id).expect("an id"), listen, Routed::Unavailable)
        };
        Apis::new(listens.iter().map(of).collect()).expect("no conflict")
    }

    #[test]
    fn an_api_is_found_by_its_id_with_the_path_below_its_own() {
        let apis =
            apis(&[("root", &[], "/"), ("orders", &["*.example.org"], "/orders"), ("users", &["a.test"], "/u/")]);
        let check = |id, below, expected: Option<&str>| {
            let found = apis.named(&ApiId::parse(id).expect("an id"), below).map(|(_, path)| path);
            assert_eq!(found.as_deref(), expected, "{id} {below}");
        };
        check("root", "/a", Some("/a"));
        check("orders", "/", Some("/orders/"));
        check("orders", "/a/b", Some("/orders/a/b"));
        check("users", "/1", Some("/u/1"));
        check("other", "/1", None);
        check("orders", "*", None);
    }
}
