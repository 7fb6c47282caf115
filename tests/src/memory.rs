//! How much memory processes have.

/// `VmRSS` of this process, in KiB: gateways in process and callers alike.
#[must_use]
pub fn resident_kib() -> u64 {
    kib("self", "VmRSS:")
}

/// `VmHWM` of another process, in KiB: the most that it ever had.
pub(crate) fn peak_kib(process: u32) -> u64 {
    kib(&process.to_string(), "VmHWM:")
}

fn kib(process: &str, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("Linux, and it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
