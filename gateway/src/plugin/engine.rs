//! The one WebAssembly engine of the process: its settings, its slots, and what all guests share.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::limits::{self, MemoryBudget};
use super::machine::Machine;
use super::reclaim::Reclaim;
use super::ticker::Ticker;
use crate::model::gateway::Runtime;

/// The engine with what all guests of the process share. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
    wasmtime: wasmtime::Engine,
    code: CodeSettings,
    ticker: Ticker,
    reclaim: Reclaim,
    slots: Arc<Semaphore>,
    slots_total: u32,
    memory: Arc<MemoryBudget>,
    plugin_share_percent: u32,
    instance_memory_bytes_max: u64,
}

/// The engine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No settings fit the machine.
    #[error("no room for a single plugin instance: {reason} (machine: {machine})")]
    NoRoom {
        /// The last try's word for it.
        reason: String,
        /// What the machine has.
        machine: Machine,
    },
    /// A thread could not be started.
    #[error("cannot start a thread for plugins: {0}")]
    Thread(#[source] std::io::Error),
}

/// What start-up chose, and why it is less than asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Instances at one time.
    pub slots: u32,
    /// Linear memory of all guests, in bytes.
    pub memory_bytes_max: u64,
    /// Why less was taken than asked for, a line each.
    pub fallbacks: Vec<String>,
}

impl Engine {
    /// Makes the engine: as many slots as asked for, or as the machine carries, with the reason told.
    pub fn new(runtime: &Runtime, machine: &Machine) -> Result<(Self, Choice), EngineError> {
        let mut fallbacks = Vec::new();
        let mut slots = runtime.instances_max.unwrap_or(SLOTS_DEFAULT).max(1);
        let mappings_free = machine.mappings_max.saturating_sub(MAPPINGS_RESERVED);
        let slots_mappable = u32::try_from(mappings_free / MAPPINGS_PER_SLOT).unwrap_or(u32::MAX).max(1);
        if slots > slots_mappable {
            fallbacks.push(format!(
                "{slots_mappable} instances instead of {slots}: `vm.max_map_count` is {}, and each takes {MAPPINGS_PER_SLOT} mappings",
                machine.mappings_max
            ));
            slots = slots_mappable;
        }
        let memory_bytes_max = runtime.memory_bytes_max.unwrap_or(machine.memory_bytes_max / 2);
        let mut refused;
        // From what is fastest to what fits almost anywhere: fewer slots first, then memories without reserved space
        // for elided bounds checks, then no pool.
        for reservation in [Reservation::Full, Reservation::Tight, Reservation::OnDemand] {
            let mut slots = slots;
            let code = CodeSettings { reservation, instance_memory_bytes_max: runtime.instance_memory_bytes_max };
            loop {
                match wasmtime::Engine::new(&config(runtime, slots, code)) {
                    Ok(wasmtime) => {
                        let ticker = Ticker::start(wasmtime.clone(), runtime.tick).map_err(EngineError::Thread)?;
                        let shared = Shared {
                            wasmtime,
                            code,
                            ticker,
                            reclaim: Reclaim::start().map_err(EngineError::Thread)?,
                            slots: Arc::new(Semaphore::new(usize::try_from(slots).unwrap_or(usize::MAX))),
                            slots_total: slots,
                            memory: Arc::new(MemoryBudget::new(memory_bytes_max)),
                            plugin_share_percent: runtime.plugin_share_percent,
                            instance_memory_bytes_max: runtime.instance_memory_bytes_max,
                        };
                        return Ok((Self(Arc::new(shared)), Choice { slots, memory_bytes_max, fallbacks }));
                    }
                    Err(error) => refused = format!("{error:#}"),
                }
                if slots <= SLOTS_MIN || reservation == Reservation::OnDemand {
                    break;
                }
                let fewer = (slots / 2).max(SLOTS_MIN);
                fallbacks.push(format!("{fewer} instances instead of {slots}: {refused}"));
                slots = fewer;
            }
            fallbacks.push(match reservation {
                Reservation::Full => format!("memories without reserved address space, which are slower: {refused}"),
                _ => format!("instances allocated on demand, which is slower: {refused}"),
            });
        }
        let reason = fallbacks.pop().unwrap_or_default();
        Err(EngineError::NoRoom { reason, machine: machine.clone() })
    }

    /// The engine itself.
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.wasmtime
    }

    /// What its code depends on.
    pub fn code(&self) -> CodeSettings {
        self.0.code
    }

    /// What advances epochs while calls run.
    pub fn ticker(&self) -> &Ticker {
        &self.0.ticker
    }

    /// What takes the memory of large instances back.
    pub fn reclaim(&self) -> &Reclaim {
        &self.0.reclaim
    }

    /// A permit for each instance that there may be.
    pub fn slots(&self) -> &Arc<Semaphore> {
        &self.0.slots
    }

    /// Instances at one time, and how many of them are in use.
    pub fn slots_in_use(&self) -> (u32, u32) {
        let free = u32::try_from(self.0.slots.available_permits()).unwrap_or(u32::MAX);
        (self.0.slots_total, self.0.slots_total.saturating_sub(free))
    }

    /// The budget of linear memory of all guests.
    pub fn memory(&self) -> &Arc<MemoryBudget> {
        &self.0.memory
    }

    /// What one plugin may take of the instances that there can be, at least one: were it all, it could keep others out.
    pub fn slots_share(&self) -> u32 {
        let share = limits::share(u64::from(self.0.slots_total), self.0.plugin_share_percent);
        u32::try_from(share).unwrap_or(u32::MAX).max(1)
    }

    /// What one plugin may take of the memory of all guests.
    pub fn memory_share(&self) -> MemoryBudget {
        self.0.memory.share(self.0.plugin_share_percent)
    }

    /// The largest linear memory that a slot can hold.
    pub fn instance_memory_bytes_max(&self) -> u64 {
        self.0.instance_memory_bytes_max
    }
}

/// What compiled code depends on. Code that was compiled with others is refused by the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeSettings {
    reservation: Reservation,
    instance_memory_bytes_max: u64,
}

/// How linear memories get their address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reservation {
    /// All that a 32-bit memory could address, with guards: no bounds checks in the code.
    Full,
    /// What an instance may use.
    Tight,
    /// No pool.
    OnDemand,
}

impl CodeSettings {
    /// The settings of an engine that compiles such code, without room to run it.
    pub fn config(self) -> Config {
        let mut config = Config::new();
        config
            .consume_fuel(true)
            .epoch_interruption(true)
            // Guests are synchronous; each call would pay for the bookkeeping of concurrent ones.
            .concurrency_support(false)
            .gc_support(false)
            .wasm_memory64(false)
            // Registering unwind tables grows with the square of the number of modules; traps do not need them.
            .native_unwind_info(false)
            .max_wasm_stack(WASM_STACK_BYTES)
            .async_stack_size(WASM_STACK_BYTES + HOST_STACK_BYTES)
            .wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES_MAX));
        if self.reservation != Reservation::Full {
            config.memory_reservation(self.instance_memory_bytes_max).memory_guard_size(GUARD_BYTES);
        }
        config
    }

    /// As one word, for [`CodeSettings::parse`].
    pub fn word(self) -> String {
        let reservation = match self.reservation {
            Reservation::Full => "full",
            Reservation::Tight => "tight",
            Reservation::OnDemand => "on-demand",
        };
        format!("{reservation}:{}", self.instance_memory_bytes_max)
    }

    /// Reads what [`CodeSettings::word`] wrote.
    pub fn parse(word: &str) -> Option<Self> {
        let (reservation, bytes) = word.split_once(':')?;
        let reservation = match reservation {
            "full" => Reservation::Full,
            "tight" => Reservation::Tight,
            "on-demand" => Reservation::OnDemand,
            _ => return None,
        };
        Some(Self { reservation, instance_memory_bytes_max: bytes.parse().ok()? })
    }
}

fn config(runtime: &Runtime, slots: u32, code: CodeSettings) -> Config {
    let mut config = code.config();
    if code.reservation == Reservation::OnDemand {
        return config;
    }
    let memory_bytes = usize::try_from(runtime.instance_memory_bytes_max).unwrap_or(usize::MAX);
    let mut pool = PoolingAllocationConfig::new();
    // Whoever has a slot has room for all that a component may consist of: no plugin takes it from others.
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES_PER_SLOT))
        .total_memories(slots.saturating_mul(MEMORIES_PER_SLOT))
        .total_tables(slots.saturating_mul(TABLES_PER_SLOT))
        .total_stacks(slots)
        .max_memories_per_component(MEMORIES_PER_SLOT)
        .max_tables_per_component(TABLES_PER_SLOT)
        .max_core_instances_per_component(CORE_INSTANCES_PER_SLOT)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(2 << 20)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(memory_bytes)
        .linear_memory_keep_resident(runtime.keep_resident_bytes)
        .table_keep_resident(TABLE_RESIDENT_BYTES);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// How long a thread waits for its epoch to be looked at, at most; for tests and documentation.
pub const fn tick_default() -> Duration {
    Duration::from_micros(500)
}

const SLOTS_DEFAULT: u32 = 1_000;
const SLOTS_MIN: u32 = 8;
/// What the process has mapped besides plugins: its own code, threads, heaps, compiled components.
const MAPPINGS_RESERVED: u64 = 8_000;
/// Two memories of up to four mappings, tables, and a stack of two.
const MAPPINGS_PER_SLOT: u64 = 14;
const MEMORIES_PER_SLOT: u32 = 2;
const TABLES_PER_SLOT: u32 = 4;
/// They have no address space of their own.
const CORE_INSTANCES_PER_SLOT: u32 = 32;
const TABLE_ELEMENTS: usize = 20_000;
const TABLE_RESIDENT_BYTES: usize = 64 << 10;
const WASM_STACK_BYTES: usize = 512 << 10;
/// For host calls, which run on the same stack.
const HOST_STACK_BYTES: usize = 512 << 10;
const GUARD_BYTES: u64 = 64 << 10;
const BACKTRACE_FRAMES_MAX: usize = 16;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};

    use super::*;

    #[test]
    fn an_engine_that_only_compiles_makes_code_for_the_one_that_runs() {
        let hash = |engine: wasmtime::Engine| {
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        let runtime = Runtime::default();
        for reservation in [Reservation::Full, Reservation::Tight, Reservation::OnDemand] {
            let code = CodeSettings { reservation, instance_memory_bytes_max: runtime.instance_memory_bytes_max };
            let told = CodeSettings::parse(&code.word()).unwrap();
            assert_eq!(told, code);
            let runs = wasmtime::Engine::new(&config(&runtime, 8, code)).unwrap();
            let mut compiles = told.config();
            compiles.parallel_compilation(false);
            assert_eq!(hash(runs), hash(wasmtime::Engine::new(&compiles).unwrap()), "{reservation:?}");
        }
        assert_eq!(CodeSettings::parse("full"), None);
        assert_eq!(CodeSettings::parse("wide:1"), None);
    }
}
