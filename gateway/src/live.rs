//! The snapshot that requests are answered from: built from a configuration, swapped as a whole.
//!
//! An API that cannot be built answers 503 for itself alone; its neighbours are none the wiser.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::model::api::Listen;
use crate::model::gateway::Gateway;
use crate::model::id::PluginName;
use crate::model::plugin::Hook;
use crate::pipeline::Apis;
use crate::pipeline::plan::{Plan, PlanError, Routed};
use crate::plugin::failure::LoadError;
use crate::plugin::load::{ApiFacts, Generation, Loader};
use crate::plugin::pool::Pool;
use crate::router::{Conflict, Router};

/// The current snapshot. Cheap to clone.
#[derive(Clone)]
pub struct Live(Arc<ArcSwap<Snapshot>>);

/// Everything that requests are answered from, of one moment.
pub struct Snapshot {
    /// APIs by host and path.
    pub apis: Arc<Apis>,
    /// The plans of the APIs that are served.
    pub plans: Vec<Arc<Plan>>,
    /// The plugins that loaded.
    pub plugins: Vec<Arc<Generation>>,
    /// Instances, by plugin, API and configuration.
    pub pools: Vec<Arc<Pool>>,
    /// What is not served, and why.
    pub problems: Vec<Problem>,
}

/// A plugin or an API that is not in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its place in the configuration, such as `apis.orders.hooks.pre[0]`.
    pub place: String,
    /// What is wrong.
    pub reason: String,
}

impl Live {
    /// Begins with this snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(snapshot)))
    }

    /// The snapshot of this moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// The snapshot without counting a reference: for one look.
    pub fn apis(&self) -> Arc<Apis> {
        self.0.load().apis.clone()
    }
}

impl Snapshot {
    /// Loads the plugins and makes the plans. `step` is told the name of each plugin before it loads.
    ///
    /// Only two APIs on one host and path end it; whatever else is wrong is a problem of its API alone.
    pub fn build(gateway: &Gateway, loader: &Loader, mut step: impl FnMut(&str)) -> Result<Self, Conflict> {
        let mut problems = Vec::new();
        let mut loaded: HashMap<PluginName, Result<Arc<Generation>, LoadError>> = HashMap::new();
        for spec in &gateway.plugins {
            step(spec.name.as_str());
            let generation = loader.load(spec);
            match &generation {
                Ok(generation) => {
                    let version = &generation.description.version;
                    loader.metrics.plugin_loaded(
                        &spec.name,
                        version,
                        &generation.digest.short(),
                        generation.compile_time,
                    );
                }
                Err(error) => {
                    loader.metrics.plugin_load_failed(&spec.name);
                    problems.push(Problem { place: format!("plugins.{}", spec.name), reason: error.to_string() });
                }
            }
            loaded.insert(spec.name.clone(), generation);
        }
        let mut plans = Vec::new();
        let mut pools = Vec::new();
        let mut routes: Vec<(&Listen, Routed)> = Vec::new();
        for api in &gateway.apis {
            let facts = Arc::new(ApiFacts::from(api));
            // Uses of one plugin with one configuration share a pool, but never across APIs.
            let mut pools_of_api = Vec::new();
            let plan = Plan::for_api(api, &loader.metrics, |hook, _, hook_use| {
                let generation = match loaded.get(&hook_use.plugin) {
                    Some(Ok(generation)) => generation,
                    Some(Err(error)) => return Err(error.clone()),
                    None => {
                        let reason = "is not declared under `plugins`".to_owned();
                        return Err(LoadError::Resources { plugin: hook_use.plugin.clone(), reason });
                    }
                };
                loader.prepare(generation, &facts, hook, hook_use, &mut pools_of_api)
            });
            let routed = match plan {
                Ok(plan) => {
                    let plan = Arc::new(plan);
                    plans.push(plan.clone());
                    Routed::Plan(plan)
                }
                Err(error) => {
                    problems.push(Problem { place: place(api.id.as_str(), &error), reason: reason(&error) });
                    Routed::Unavailable
                }
            };
            pools.extend(pools_of_api);
            routes.push((&api.listen, routed));
        }
        let plugins = loaded.into_values().filter_map(Result::ok).collect();
        Ok(Self { apis: Arc::new(Router::new(routes)?), plans, plugins, pools, problems })
    }
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
