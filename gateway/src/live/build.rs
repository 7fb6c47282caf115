//! Builds a snapshot from a configuration and the snapshot before it: what did not change stays as it is, instances and
//! connections included, and what cannot be built stays as it was.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::report::{Outcome, Report, Versions};
use super::retry::Brought;
use super::{Effect, Look, Plugin, Problem, Refused, Snapshot};
use crate::fetch::{FetchError, Fetched, Fetcher, Round};
use crate::model::api::{Api, Listen};
use crate::model::gateway::Gateway;
use crate::model::id::{ApiId, PluginName};
use crate::model::plugin::{Hook, PluginSpec};
use crate::pipeline::apis::Apis;
use crate::pipeline::plan::{Plan, PlanError, Routed};
use crate::plugin::failure::LoadError;
use crate::plugin::load::{ApiFacts, Generation, Loader, PluginFile};
use crate::plugin::pool::Pool;
use crate::router::Conflict;

/// Builds snapshots.
pub struct Builder<'b> {
    loader: &'b Loader,
    round: Round<'b>,
    before: Option<&'b Snapshot>,
    /// What is there, by name: looking through a list for each of a thousand would take its time.
    plugins: HashMap<PluginName, &'b Plugin>,
    plans: HashMap<ApiId, &'b Arc<Plan>>,
    tries_refused_again: bool,
    asks_elsewhere: bool,
    /// What came of fetches that nobody asked for. Then other plugins stay as they are.
    brought: Option<RefCell<HashMap<PluginName, Brought>>>,
}

impl<'b> Builder<'b> {
    /// Builds from nothing.
    pub fn new(loader: &'b Loader, fetcher: &'b Fetcher) -> Self {
        let (plugins, plans) = (HashMap::new(), HashMap::new());
        Self {
            loader,
            round: fetcher.round(),
            before: None,
            plugins,
            plans,
            tries_refused_again: true,
            asks_elsewhere: true,
            brought: None,
        }
    }

    /// Builds from what is there.
    pub fn after(loader: &'b Loader, fetcher: &'b Fetcher, before: &'b Snapshot) -> Self {
        let plugins = before.plugins.iter().map(|plugin| (plugin.name.clone(), plugin)).collect();
        let plans = before.plans.iter().map(|plan| (plan.api.id.clone(), plan)).collect();
        let before = Some(before);
        Self {
            loader,
            round: fetcher.round(),
            before,
            plugins,
            plans,
            tries_refused_again: false,
            asks_elsewhere: false,
            brought: None,
        }
    }

    /// Tries again what was refused before, though nothing of it changed.
    #[must_use]
    pub fn trying_again(mut self) -> Self {
        self.tries_refused_again = true;
        self
    }

    /// Asks for new versions of plugins that are elsewhere: nobody tells of them.
    #[must_use]
    pub fn asking(mut self) -> Self {
        self.asks_elsewhere = true;
        self
    }

    /// Takes these for what was asked for, and looks at no other plugin.
    #[must_use]
    pub(super) fn bringing(mut self, brought: Vec<Brought>) -> Self {
        self.brought = Some(RefCell::new(brought.into_iter().map(|one| (one.spec.name.clone(), one)).collect()));
        self
    }

    /// Loads the plugins that changed and makes the plans of the APIs that changed or use them. `step` is told the name of each
    /// plugin before it is looked at. Takes a while, so not on a thread that serves requests.
    ///
    /// # Errors
    /// Two APIs are on one host and path. Whatever else is wrong is a problem of its API alone.
    pub fn build(&self, gateway: &Gateway, mut step: impl FnMut(&str)) -> Result<(Snapshot, Report), Conflict> {
        let mut report = Report::default();
        let mut problems = Vec::new();
        let mut plugins = HashMap::new();
        for spec in &gateway.plugins {
            step(spec.name.as_str());
            let before = self.plugins.get(&spec.name).copied();
            let plugin = self.plugin(spec, before);
            let outcome = outcome_of_plugin(&plugin, before);
            if let Some(reason) = outcome.reason() {
                let effect = if plugin.generation.is_some() { Effect::Outdated } else { Effect::Unserved };
                problems.push(Problem { place: format!("plugins.{}", spec.name), reason: reason.to_owned(), effect });
            }
            let digest = |plugin: &Plugin| plugin.generation.as_ref().map(|generation| generation.digest);
            report.plugins.push((
                spec.name.clone(),
                outcome,
                Versions { before: before.and_then(digest), now: digest(&plugin) },
            ));
            plugins.insert(&spec.name, plugin);
        }
        let mut plans = Vec::new();
        let mut routes: Vec<(ApiId, Listen, Routed)> = Vec::new();
        for api in &gateway.apis {
            let before = self.plans.get(&api.id).copied();
            let (plan, outcome) = match self.plan(api, before, &plugins) {
                Ok(plan) => {
                    let outcome = match before {
                        None => Outcome::Added,
                        Some(before) if Arc::ptr_eq(before, &plan) => Outcome::Unchanged,
                        Some(_) => Outcome::Changed,
                    };
                    (Some(plan), outcome)
                }
                Err(errors) => {
                    let effect = if before.is_some() { Effect::Outdated } else { Effect::Unserved };
                    let problem =
                        |error| Problem { place: place(api.id.as_str(), error), reason: reason(error), effect };
                    problems.extend(errors.iter().map(problem));
                    let mut reasons: Vec<String> = errors.iter().map(reason).collect();
                    reasons.dedup();
                    let reason = reasons.join("; ");
                    match before {
                        Some(before) => (Some(before.clone()), Outcome::Kept { reason }),
                        None => (None, Outcome::Refused { reason }),
                    }
                }
            };
            report.apis.push((api.id.clone(), outcome));
            match plan {
                Some(plan) => {
                    routes.push((api.id.clone(), plan.api.listen.clone(), Routed::Plan(plan.clone())));
                    plans.push(plan);
                }
                None => routes.push((api.id.clone(), api.listen.clone(), Routed::Unavailable)),
            }
        }
        self.report_removed(gateway, &mut report);
        let apis = Arc::new(Apis::new(routes)?);
        let pools = pools(&plans);
        let plugins = gateway.plugins.iter().filter_map(|spec| plugins.remove(&spec.name)).collect();
        Ok((Snapshot { apis, plans, plugins, pools, problems }, report))
    }

    /// A plugin as it is to be from now on.
    fn plugin(&self, spec: &PluginSpec, before: Option<&Plugin>) -> Plugin {
        // Before it is read: a write in between is found by the next look.
        let look = Look::at(spec);
        let is_known = |before: &&Plugin| {
            let of = before.refused.as_ref().map(|refused| &refused.spec);
            let of = of.or_else(|| before.generation.as_ref().map(|generation| &generation.spec));
            of == Some(spec) && !(self.tries_refused_again && before.refused.is_some())
        };
        let known = before.filter(is_known);
        let is_looked_at = look.file.is_some() || (spec.source.file().is_none() && !self.asks_elsewhere);
        let stays = |known: &&Plugin| match &self.brought {
            None => is_looked_at && known.look == look,
            Some(brought) => !brought.borrow().contains_key(&spec.name),
        };
        if let Some(known) = known.filter(stays) {
            return known.clone();
        }
        let generation = before.and_then(|before| before.generation.clone());
        let (file, unheard) = self.read(spec);
        let refused = |error: LoadError, digest| {
            self.loader.metrics.plugin_load_failed(&spec.name);
            Some(Refused { error, digest, unheard: unheard.clone(), spec: spec.clone() })
        };
        let name = spec.name.clone();
        let file = match file {
            Ok(file) => file,
            Err(error) => return Plugin { name, generation, refused: refused(error, None), look },
        };
        let stale = unheard.as_ref().and_then(|error| refused(not_fetched(spec, error), None));
        // The digest decides, not the time of the file.
        if let Some(known) = known {
            let refused = known.refused.as_ref();
            let digest = match refused {
                Some(refused) => refused.digest,
                None => known.generation.as_ref().map(|generation| generation.digest),
            };
            if digest == Some(file.digest) {
                let refused = known.refused.clone().map(|refused| Refused { unheard: unheard.clone(), ..refused });
                let refused = refused.or(stale);
                return Plugin { look, refused, ..known.clone() };
            }
        }
        if let Some(generation) = &generation
            && generation.digest == file.digest
            && generation.spec == *spec
        {
            return Plugin { name, generation: Some(generation.clone()), refused: stale, look };
        }
        match self.loader.load_file(spec, &file) {
            Ok(generation) => {
                let (version, digest) = (&generation.description.version, generation.digest.short());
                self.loader.metrics.plugin_loaded(&name, version, &digest, generation.compile_time);
                Plugin { name, generation: Some(generation), refused: stale, look }
            }
            Err(error) => Plugin { name, generation, refused: refused(error, Some(file.digest)), look },
        }
    }

    /// The file of a plugin; where it is elsewhere and nobody answers there, the last one that came, and why.
    fn read(&self, spec: &PluginSpec) -> (Result<PluginFile, LoadError>, Option<FetchError>) {
        if spec.source.file().is_some() {
            return (PluginFile::read(spec), None);
        }
        let brought = self.brought.as_ref().and_then(|brought| brought.borrow_mut().remove(&spec.name));
        let brought = brought.filter(|brought| brought.spec == *spec);
        match brought.map_or_else(|| self.round.fetch(spec), |brought| brought.fetched) {
            Ok(Fetched { content, signature, stale }) => (PluginFile::fetched(spec, content, signature), stale),
            Err(error) => (Err(not_fetched(spec, &error)), Some(error)),
        }
    }

    /// The plan of an API: the one before, if nothing of it changed.
    fn plan(
        &self,
        api: &Api,
        before: Option<&Arc<Plan>>,
        plugins: &HashMap<&PluginName, Plugin>,
    ) -> Result<Arc<Plan>, Vec<PlanError>> {
        let generation = |name: &PluginName| -> Result<&Arc<Generation>, LoadError> {
            let Some(plugin) = plugins.get(name) else {
                let reason = "is not declared under `plugins`".to_owned();
                return Err(LoadError::Resources { plugin: name.clone(), reason });
            };
            match (&plugin.generation, &plugin.refused) {
                (Some(generation), _) => Ok(generation),
                (None, Some(refused)) => Err(refused.error.clone()),
                (None, None) => Err(LoadError::Resources { plugin: name.clone(), reason: "was not loaded".to_owned() }),
            }
        };
        let is_current = |plan: &Plan| {
            plan.api == *api
                && plan.uses().all(|used| {
                    generation(&used.generation.spec.name).is_ok_and(|now| Arc::ptr_eq(now, &used.generation))
                })
        };
        if let Some(before) = before.filter(|before| is_current(before)) {
            return Ok(before.clone());
        }
        let facts = Arc::new(ApiFacts::from(api));
        // Uses of one plugin with one configuration share a pool, but never across APIs.
        // Those of before stay in use, unless what their instances may reach differs.
        let reach_as_much =
            |plan: &&Arc<Plan>| plan.facts.organisation == facts.organisation && plan.facts.policies == facts.policies;
        let before_them = before.filter(reach_as_much);
        let mut pools: Vec<Arc<Pool>> =
            before_them.into_iter().flat_map(|plan| plan.uses()).map(|used| used.pool.clone()).collect();
        let prepare = |hook, _, hook_use: &crate::model::api::HookUse| {
            self.loader.prepare(generation(&hook_use.plugin)?, &facts, hook, hook_use, &mut pools)
        };
        let (metrics, store) = (&self.loader.metrics, &self.loader.store);
        Plan::for_api(api, metrics, store, before.map(|plan| &**plan), prepare).map(Arc::new)
    }

    fn report_removed(&self, gateway: &Gateway, report: &mut Report) {
        let Some(before) = self.before else { return };
        let plugins: HashSet<&PluginName> = gateway.plugins.iter().map(|spec| &spec.name).collect();
        let apis: HashSet<&ApiId> = gateway.apis.iter().map(|api| &api.id).collect();
        for plugin in &before.plugins {
            if !plugins.contains(&plugin.name) {
                let digest = plugin.generation.as_ref().map(|generation| generation.digest);
                report.plugins.push((plugin.name.clone(), Outcome::Removed, Versions { before: digest, now: None }));
                self.loader.metrics.plugin_removed(&plugin.name);
            }
        }
        for plan in &before.plans {
            if !apis.contains(&plan.api.id) {
                report.apis.push((plan.api.id.clone(), Outcome::Removed));
            }
        }
    }
}

fn not_fetched(spec: &PluginSpec, error: &FetchError) -> LoadError {
    LoadError::Fetch { plugin: spec.name.clone(), place: spec.source.to_string(), reason: error.to_string() }
}

fn outcome_of_plugin(plugin: &Plugin, before: Option<&Plugin>) -> Outcome {
    if let Some(refused) = &plugin.refused {
        let reason = refused.error.to_string();
        return if plugin.generation.is_some() { Outcome::Kept { reason } } else { Outcome::Refused { reason } };
    }
    match (&plugin.generation, before.and_then(|before| before.generation.as_ref())) {
        (Some(now), Some(before)) if Arc::ptr_eq(now, before) => Outcome::Unchanged,
        (_, Some(_)) => Outcome::Changed,
        (_, None) => Outcome::Added,
    }
}

/// The pools of all plans, each once.
fn pools(plans: &[Arc<Plan>]) -> Vec<Arc<Pool>> {
    let mut pools: Vec<Arc<Pool>> = Vec::new();
    for plan in plans {
        // Only uses of one API share a pool.
        let first = pools.len();
        for used in plan.uses() {
            if !pools.iter().skip(first).any(|pool| Arc::ptr_eq(pool, &used.pool)) {
                pools.push(used.pool.clone());
            }
        }
    }
    pools
}

fn place(api: &str, error: &PlanError) -> String {
    match error {
        PlanError::Plugin { hook: Hook::Auth, .. } => format!("apis.{api}.auth"),
        PlanError::Plugin { hook, index, .. } => format!("apis.{api}.hooks.{hook}[{index}]"),
        PlanError::Target(_) | PlanError::Host(_) => format!("apis.{api}.upstream"),
    }
}

fn reason(error: &PlanError) -> String {
    match error {
        PlanError::Plugin { source, .. } => source.to_string(),
        PlanError::Target(error) => error.to_string(),
        PlanError::Host(_) => error.to_string(),
    }
}
