//! The snapshot that requests are answered from: built from a configuration, swapped as a whole.
//!
//! A request keeps the plan that it began with. An API that cannot be built stays as it was, or answers 503 for itself alone
//! where there was none; its neighbours are none the wiser.

mod build;
pub mod reload;
mod report;
mod retry;
mod watch;

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

pub use self::build::Builder;
pub use self::report::{Outcome, Report, Versions};
use crate::fetch::FetchError;
use crate::files::Stamp;
use crate::model::digest::Digest;
use crate::model::id::PluginName;
use crate::model::plugin::{Hook, OnFailure, PluginSpec};
use crate::pipeline::apis::Apis;
use crate::pipeline::plan::Plan;
use crate::plugin::failure::LoadError;
use crate::plugin::load::Generation;
use crate::plugin::pool::Pool;
use crate::plugin::quarantine::Quarantined;

/// The current snapshot. Cheap to clone.
#[derive(Clone)]
pub struct Live(Arc<ArcSwap<Snapshot>>);

/// Everything that requests are answered from, of one moment.
#[derive(Clone)]
pub struct Snapshot {
    /// APIs by host and path.
    pub apis: Arc<Apis>,
    /// The plans of the APIs that are served.
    pub plans: Vec<Arc<Plan>>,
    /// The plugins of the configuration.
    pub plugins: Vec<Plugin>,
    /// Instances, by plugin, API and configuration.
    pub pools: Vec<Arc<Pool>>,
    /// What is not in order, and why.
    pub problems: Vec<Problem>,
}

/// A plugin of the configuration.
#[derive(Clone)]
pub struct Plugin {
    /// Its name.
    pub name: PluginName,
    /// The version that new plans use; none where it never loaded.
    pub generation: Option<Arc<Generation>>,
    /// Why its file, as it is now, is not used.
    pub refused: Option<Refused>,
    /// What its files looked like when they were read last.
    look: Look,
}

/// What the files of a plugin looked like at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    /// None where it cannot be looked at, or is elsewhere.
    file: Option<Stamp>,
    /// Of its signature, where it must have one.
    signature: Option<Stamp>,
}

/// What of a plugin was tried and is not used.
#[derive(Clone)]
pub struct Refused {
    /// Why.
    pub error: LoadError,
    /// Its file's content, where it could be read.
    pub digest: Option<Digest>,
    /// Why its server was not heard, where it is elsewhere.
    unheard: Option<FetchError>,
    spec: PluginSpec,
}

/// A plugin or an API that is not in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its place in the configuration, such as `apis.orders.hooks.pre[0]`.
    pub place: String,
    /// What is wrong.
    pub reason: String,
    /// What that means for requests.
    pub effect: Effect,
}

/// What a problem means for requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Something is not served.
    Unserved,
    /// What was there before goes on.
    Outdated,
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

    /// Requests that begin from now on are answered from this one.
    pub fn swap(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }
}

impl Snapshot {
    /// The plugin of this name.
    pub fn plugin(&self, name: &PluginName) -> Option<&Plugin> {
        self.plugins.iter().find(|plugin| plugin.name == *name)
    }

    /// Versions in use that are in quarantine, each with what that means for requests.
    pub fn quarantined(&self) -> Vec<(Arc<Generation>, Quarantined, Vec<&'static str>)> {
        let mut all: Vec<(Arc<Generation>, Quarantined, Vec<&'static str>)> = Vec::new();
        for hook in self.plans.iter().flat_map(|plan| plan.hooks()) {
            let generation = &hook.function.generation;
            let Some(shown) = generation.quarantine.shown() else { continue };
            let meaning = match (hook.hook, hook.on_failure) {
                (Hook::Analytics, _) => "records that it masks are dropped",
                (_, OnFailure::Reject) => "requests that need it are refused",
                (_, OnFailure::Continue) => "requests go on without it where `on_failure` is `continue`",
            };
            match all.iter_mut().find(|(known, ..)| Arc::ptr_eq(known, generation)) {
                Some((.., meanings)) if meanings.contains(&meaning) => {}
                Some((.., meanings)) => meanings.push(meaning),
                None => all.push((generation.clone(), shown, vec![meaning])),
            }
        }
        all
    }

    /// Loaded versions of a plugin: the current one, and older ones that some API stayed with.
    pub fn generations(&self, name: &str) -> Vec<Arc<Generation>> {
        let current = self.plugins.iter().filter_map(|plugin| plugin.generation.as_ref());
        let used = self.plans.iter().flat_map(|plan| plan.uses()).map(|used| &used.generation);
        let mut all: Vec<Arc<Generation>> = Vec::new();
        for generation in current.chain(used).filter(|generation| generation.spec.name.as_str() == name) {
            if !all.iter().any(|known| Arc::ptr_eq(known, generation)) {
                all.push(generation.clone());
            }
        }
        all
    }

    /// Plugins that were not fetched, or not again, and may be soon.
    fn awaited(&self) -> impl Iterator<Item = &Refused> {
        self.plugins.iter().filter_map(|plugin| plugin.refused.as_ref()).filter(|refused| refused.is_awaited())
    }

    /// The same, if it is about this plugin as it is declared.
    fn awaits(&self, spec: &PluginSpec) -> Option<&Refused> {
        let refused = self.plugin(&spec.name)?.refused.as_ref()?;
        (refused.spec == *spec && refused.is_awaited()).then_some(refused)
    }

    /// The plan of the API with this id.
    pub fn plan(&self, api: &str) -> Option<&Arc<Plan>> {
        self.plans.iter().find(|plan| plan.api.id.as_str() == api)
    }
}

impl Plugin {
    /// Whether its files may be others than were read.
    fn is_changed(&self, spec: &PluginSpec) -> bool {
        self.look != Look::at(spec)
    }
}

impl Refused {
    fn is_awaited(&self) -> bool {
        self.unheard.as_ref().is_some_and(|error| error.kind.may_pass())
    }
}

impl Look {
    fn at(spec: &PluginSpec) -> Self {
        let stamp = |path: &Path| Stamp::of(path).ok();
        let signature = spec.provenance.signed.as_ref().and_then(|signed| signed.file.as_deref());
        Self { file: spec.source.file().and_then(stamp), signature: signature.and_then(stamp) }
    }
}

/// The files on this machine that a plugin is made of.
fn files(spec: &PluginSpec) -> impl Iterator<Item = &Path> {
    let signature = spec.provenance.signed.as_ref().and_then(|signed| signed.file.as_deref());
    spec.source.file().into_iter().chain(signature)
}
