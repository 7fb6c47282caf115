//! What is there twice: ids, and hosts with paths. Of an API or policy with a problem it takes what can be read.

use std::collections::{BTreeMap, BTreeSet};

use super::api::host;
use super::raw_api;
use super::report::{Place, Report};
use crate::model::id::ApiId;
use crate::model::path::ListenPath;
use crate::model::policy::PolicyId;

/// What APIs and policies want for themselves alone, each with the place of the whole.
#[derive(Default)]
pub(super) struct Claims {
    apis: Vec<(Place, ApiClaim)>,
    policies: Vec<(Place, PolicyId)>,
}

/// What an API wants for itself alone.
struct ApiClaim {
    id: Option<ApiId>,
    path: Option<ListenPath>,
    /// Hosts with the places where they stand; every host has none.
    hosts: Vec<(Option<Place>, String)>,
}

impl Claims {
    pub(super) fn api(&mut self, place: &Place, raw: &raw_api::Api) {
        let (id, listen) = (place.key("id"), place.key("listen"));
        let (path, hosts) = (listen.key("path"), listen.key("hosts"));
        let named = raw.listen.hosts.iter().enumerate().filter_map(|(index, text)| {
            let place = hosts.item(index);
            let host = host(text).ok().filter(|_| place.is_sound())?;
            Some((Some(place), host))
        });
        // Where something below `listen` is broken, that may be its hosts.
        let every = (raw.listen.hosts.is_empty() && listen.is_whole()).then(|| (None, String::new()));
        let mut hosts: Vec<(Option<Place>, String)> = named.chain(every).collect();
        // One that the API itself names twice is told where it stands.
        let mut seen = BTreeSet::new();
        hosts.retain(|(_, host)| seen.insert(host.clone()));
        let claim = ApiClaim {
            id: ApiId::parse(&raw.id).ok().filter(|_| id.is_sound()),
            path: ListenPath::parse(&raw.listen.path).ok().filter(|_| path.is_sound()),
            hosts,
        };
        self.apis.push((place.clone(), claim));
    }

    pub(super) fn policy(&mut self, place: &Place, id: PolicyId) {
        self.policies.push((place.clone(), id));
    }

    /// Tells what is there twice.
    pub(super) fn check(&self, report: &mut Report) {
        self.api_ids(report);
        self.listen_paths(report);
        self.policy_ids(report);
    }

    fn api_ids(&self, report: &mut Report) {
        let mut seen = BTreeSet::new();
        for (place, api) in &self.apis {
            let Some(id) = api.id.as_ref().filter(|id| !seen.insert(*id)) else { continue };
            let place = place.key("id");
            report.error(&place, format!("{} is the id of another API", place.shown(id.as_str())), "rename one");
        }
    }

    fn listen_paths(&self, report: &mut Report) {
        let mut seen: BTreeMap<(&str, &str), String> = BTreeMap::new();
        for (place, api) in &self.apis {
            let Some(path) = &api.path else { continue };
            let who = match &api.id {
                Some(id) => format!("the API with id {}", place.key("id").shown(id.as_str())),
                None => "another API".to_owned(),
            };
            let mut is_told = false;
            for (host_place, host) in &api.hosts {
                let Some(other) = seen.insert((host, path.as_str()), who.clone()).filter(|_| !is_told) else {
                    continue;
                };
                is_told = true;
                let on = host_place.as_ref().map(|of| format!(" on host {}", of.shown(host))).unwrap_or_default();
                let message = format!("{other} listens at the same path{on}");
                let hint = "take another path, or tell them apart by `hosts`";
                report.error(&place.key("listen").key("path"), message, hint);
            }
        }
    }

    fn policy_ids(&self, report: &mut Report) {
        let mut seen = BTreeSet::new();
        for (place, id) in &self.policies {
            if !seen.insert(id) {
                let shown = place.key("id").shown(id.as_str());
                report.error(place, format!("{shown} is the id of another policy"), "rename one");
            }
        }
    }
}
