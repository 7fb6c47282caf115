//! What the machine can carry: address space, mappings, memory, files.
//!
//! Read once at start-up, told to the operator, and used to choose how many instances there can be.

use std::fmt;
use std::fs;

use rustix::process::{Resource, getrlimit};

/// Limits of the machine that matter to plugins and connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Mappings that a process may have (`vm.max_map_count`).
    pub mappings_max: u64,
    /// Address space that the process may use, in bytes; `None` where it is not limited.
    pub address_space_bytes_max: Option<u64>,
    /// Memory that the process may use: of its cgroup, or of the machine.
    pub memory_bytes_max: u64,
    /// Whether that is a cgroup's limit.
    pub memory_is_cgroup: bool,
    /// Open files that the process may have.
    pub files_max: Option<u64>,
    /// Whether the kernel refuses address space that it could not back (`vm.overcommit_memory` 2).
    pub overcommit_is_strict: bool,
    /// Cores that the process may use.
    pub cores: usize,
}

impl Machine {
    /// Reads what the kernel tells. What cannot be read counts as the kernel's default.
    pub fn read() -> Self {
        let cgroup = cgroup_memory_max();
        Self {
            mappings_max: number("/proc/sys/vm/max_map_count").unwrap_or(MAPPINGS_MAX_DEFAULT),
            address_space_bytes_max: getrlimit(Resource::As).current,
            memory_bytes_max: cgroup.unwrap_or_else(memory_total),
            memory_is_cgroup: cgroup.is_some(),
            files_max: getrlimit(Resource::Nofile).current,
            overcommit_is_strict: number("/proc/sys/vm/overcommit_memory") == Some(2),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_unlimited = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
        write!(
            f,
            "{} cores, {} MiB memory{}, {} mappings, {} files, address space {}",
            self.cores,
            self.memory_bytes_max >> 20,
            if self.memory_is_cgroup { " (cgroup)" } else { "" },
            self.mappings_max,
            or_unlimited(self.files_max),
            self.address_space_bytes_max.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{} MiB", bytes >> 20)),
        )
    }
}

const MAPPINGS_MAX_DEFAULT: u64 = 65_530;
const MEMORY_FALLBACK_BYTES: u64 = 1 << 30;

fn number(file: &str) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The smallest limit of the process's cgroup and those above it (version 2), or of version 1.
fn cgroup_memory_max() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut limits = Vec::new();
    let mut folder = std::path::PathBuf::from(format!("/sys/fs/cgroup{path}"));
    while folder.starts_with("/sys/fs/cgroup") {
        limits.extend(folder.join("memory.max").to_str().and_then(number));
        folder.pop();
    }
    limits.extend(number("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    limits.into_iter().min().filter(|bytes| *bytes < memory_total())
}

fn memory_total() -> u64 {
    let read = || {
        let text = fs::read_to_string("/proc/meminfo").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    read().unwrap_or(MEMORY_FALLBACK_BYTES)
}
