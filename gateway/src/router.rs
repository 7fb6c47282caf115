//! Which API a request is for: by host first, then by the longest listen path at the border of a segment.
//!
//! A table is made once and never changed. Finding costs one look-up per path segment, however many APIs there are.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::model::api::Listen;

/// The table.
#[derive(Debug)]
pub struct Router<T> {
    targets: Vec<T>,
    exact: HashMap<Box<str>, Tree>,
    /// `*.example.org`, by what comes after the star.
    one_label: HashMap<Box<str>, Tree>,
    any: Tree,
}

/// Two APIs listen on the same host and path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("two APIs listen on path `{path}` of host `{host}`")]
pub struct Conflict {
    /// The host, `*` for every host.
    pub host: String,
    /// The listen path.
    pub path: String,
    /// Position of the first of the two among those given.
    pub first: usize,
    /// Position of the second.
    pub second: usize,
}

/// Listen paths, a level for each segment.
#[derive(Debug, Default)]
struct Tree {
    target: Option<usize>,
    below: HashMap<Box<str>, Tree>,
}

impl<T> Router<T> {
    /// Makes the table; refused if two APIs listen on the same host and path.
    pub fn new<'l>(apis: impl IntoIterator<Item = (&'l Listen, T)>) -> Result<Self, Conflict> {
        let mut router =
            Self { targets: Vec::new(), exact: HashMap::new(), one_label: HashMap::new(), any: Tree::default() };
        for (listen, target) in apis {
            let index = router.targets.len();
            router.targets.push(target);
            let path = listen.path.as_str();
            let conflict =
                |host: &str, first| Conflict { host: host.to_owned(), path: path.to_owned(), first, second: index };
            if listen.hosts.is_empty() {
                router.any.insert(path, index).map_err(|first| conflict("*", first))?;
            }
            for host in &listen.hosts {
                let tree = match host.strip_prefix("*.") {
                    Some(parent) => router.one_label.entry(parent.into()).or_default(),
                    None => router.exact.entry(host.as_str().into()).or_default(),
                };
                match tree.insert(path, index) {
                    // One API may name a host twice.
                    Err(first) if first != index => return Err(conflict(host, first)),
                    _ => {}
                }
            }
        }
        Ok(router)
    }

    /// The API for a host (as it stands in a `Host` header, the port does not count) and a canonical path, with what is
    /// left of the path below the listen path. A host whose APIs do not have the path leaves the request to the next
    /// wider one.
    pub fn find<'p>(&self, host: &str, path: &'p str) -> Option<(&T, &'p str)> {
        let (index, rest) = self.find_index(host, path)?;
        Some((self.targets.get(index)?, rest))
    }

    /// All targets, in the order in which they were given.
    pub fn targets(&self) -> impl Iterator<Item = &T> {
        self.targets.iter()
    }

    fn find_index<'p>(&self, host: &str, path: &'p str) -> Option<(usize, &'p str)> {
        if self.exact.is_empty() && self.one_label.is_empty() {
            return self.any.longest(path);
        }
        let host = plain_host(host);
        let in_exact = || self.exact.get(&*host)?.longest(path);
        let in_one_label = || match host.split_once('.')? {
            ("", _) => None,
            (_, parent) => self.one_label.get(parent)?.longest(path),
        };
        in_exact().or_else(in_one_label).or_else(|| self.any.longest(path))
    }
}

impl Tree {
    fn insert(&mut self, path: &str, index: usize) -> Result<(), usize> {
        let mut tree = self;
        for segment in path.split('/').filter(|s| !s.is_empty()) {
            tree = tree.below.entry(segment.into()).or_default();
        }
        match tree.target {
            Some(first) => Err(first),
            None => {
                tree.target = Some(index);
                Ok(())
            }
        }
    }

    fn longest<'p>(&self, path: &'p str) -> Option<(usize, &'p str)> {
        let mut tree = self;
        let mut rest = path;
        let mut found = tree.target.map(|index| (index, rest));
        while let Some(tail) = rest.strip_prefix('/') {
            let end = tail.find('/').unwrap_or(tail.len());
            let Some((segment, after)) = tail.split_at_checked(end) else { break };
            let Some(below) = tree.below.get(segment) else { break };
            (tree, rest) = (below, after);
            if let Some(index) = tree.target {
                found = Some((index, if rest.is_empty() { "/" } else { rest }));
            }
        }
        found
    }
}

/// In lower case, without port and without the dot of the root.
fn plain_host(host: &str) -> Cow<'_, str> {
    let host = match host.strip_prefix('[') {
        // The listen host of an IPv6 address stands without brackets.
        Some(literal) => literal.split_once(']').map_or(literal, |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::path::ListenPath;

    fn listen(hosts: &[&str], path: &str) -> Listen {
        let hosts = hosts.iter().map(|h| (*h).to_owned()).collect();
        Listen { path: ListenPath::parse(path).expect("a path"), hosts, strip: true }
    }

    fn router(apis: &[(&[&str], &str)]) -> Router<usize> {
        let listens: Vec<Listen> = apis.iter().map(|(hosts, path)| listen(hosts, path)).collect();
        Router::new(listens.iter().enumerate().map(|(i, l)| (l, i))).expect("no conflict")
    }

    #[test]
    fn the_longest_listen_path_at_the_border_of_a_segment_wins() {
        let router = router(&[(&[], "/"), (&[], "/orders"), (&[], "/orders/old/very")]);
        let check = |path, expected| assert_eq!(router.find("x", path).map(|(i, p)| (*i, p)), expected, "{path}");
        check("/", Some((0, "/")));
        check("/orders", Some((1, "/")));
        check("/orders/", Some((1, "/")));
        check("/orders/1", Some((1, "/1")));
        check("/orders1", Some((0, "/orders1")));
        check("/orders/old", Some((1, "/old")));
        check("/orders/old/very", Some((2, "/")));
        check("/orders/old/veryold", Some((1, "/old/veryold")));
        check("*", Some((0, "*")));
    }

    #[test]
    fn an_exact_host_comes_before_a_star_and_a_star_before_every_host() {
        let router = router(&[
            (&[], "/"),
            (&["*.example.org"], "/"),
            (&["api.example.org", "2001:db8::1"], "/"),
            (&["deep.example.org"], "/only"),
        ]);
        let check = |host, expected| assert_eq!(router.find(host, "/x").map(|(i, _)| *i), Some(expected), "{host}");
        check("api.example.org", 2);
        check("API.Example.org:8080", 2);
        check("api.example.org.", 2);
        check("[2001:db8::1]:80", 2);
        check("www.example.org", 1);
        check("a.b.example.org", 0);
        check("example.org", 0);
        check(".example.org", 0);
        check("", 0);
        // Its own API does not have the path.
        check("deep.example.org", 1);
    }

    #[test]
    fn nothing_is_found_where_nobody_listens() {
        let router = router(&[(&["a"], "/x")]);
        assert_eq!(router.find("b", "/x"), None);
        assert_eq!(router.find("a", "/y"), None);
    }

    #[test]
    fn one_path_of_one_host_belongs_to_one_api() {
        let apis = [listen(&["a", "b"], "/x"), listen(&["c", "b"], "/x/")];
        let conflict = Router::new(apis.iter().map(|l| (l, ()))).expect_err("a conflict");
        let expected = Conflict { host: "b".to_owned(), path: "/x/".to_owned(), first: 0, second: 1 };
        assert_eq!(conflict, expected);
        assert!(Router::new([(&listen(&["a", "a"], "/"), ())]).is_ok());
    }

    /// What the table should find, by looking at every API.
    fn reference<'p>(apis: &[Listen], host: &str, path: &'p str) -> Option<(usize, &'p str)> {
        let classes: [&dyn Fn(&str) -> bool; 2] = [&|h| h == host, &|h| {
            h.strip_prefix('*').is_some_and(|end| host.find('.').is_some_and(|i| &host[i..] == end))
        }];
        let longest = |matches: &dyn Fn(&Listen) -> bool| {
            let below = apis.iter().enumerate().filter(|(_, l)| matches(l));
            let found = below.filter_map(|(i, l)| Some((l.path.as_str().len(), i, l.path.strip(path)?)));
            found.max_by_key(|(length, ..)| *length).map(|(_, i, rest)| (i, rest))
        };
        classes
            .iter()
            .find_map(|matches| longest(&|l| l.hosts.iter().any(|h| matches(h))))
            .or_else(|| longest(&|l| l.hosts.is_empty()))
    }

    proptest! {
        #[test]
        fn the_table_finds_what_looking_at_every_api_finds(
            apis in prop::collection::vec((prop::collection::vec("(\\*\\.)?[ab](\\.[ab]){0,2}", 0..3), "(/[ab]{1,2}){0,3}/?"), 0..30),
            requests in prop::collection::vec(("[ab](\\.[ab]){0,3}", "(/[ab]{1,3}){0,4}/?"), 1..20),
        ) {
            let mut kept: Vec<Listen> = Vec::new();
            for (hosts, path) in &apis {
                let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
                kept.push(listen(&hosts, &format!("/{}", path.trim_start_matches('/'))));
                if Router::new(kept.iter().map(|l| (l, ()))).is_err() {
                    kept.pop();
                }
            }
            let router = Router::new(kept.iter().enumerate().map(|(i, l)| (l, i))).expect("no conflict");
            for (host, path) in &requests {
                let path = format!("/{}", path.trim_start_matches('/'));
                let found = router.find(host, &path).map(|(i, rest)| (*i, rest));
                prop_assert_eq!(found, reference(&kept, host, &path), "{} {}", host, path);
            }
        }
    }
}
