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
