//! What a process needed of memory, as the kernel tells it.

/// Figures of `/proc/PID/status` in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident now (`VmRSS`).
    pub resident: u64,
    /// Most that ever was resident (`VmHWM`).
    pub peak: u64,
}

/// Reads the figures of process `id`.
pub fn of(id: u32) -> Memory {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the process runs");
    let kibibytes = |key: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("no {key}"));
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of kB")
    };
    Memory { resident: kibibytes("VmRSS:") * 1024, peak: kibibytes("VmHWM:") * 1024 }
}

/// Bytes the machine could still give out (`MemAvailable`).
pub fn available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("/proc is mounted");
    let line = text.lines().find(|line| line.starts_with("MemAvailable:")).expect("MemAvailable");
    let kibibytes: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kibibytes * 1024
}

#[cfg(test)]
mod tests {
    #[test]
    fn we_are_resident_and_never_above_our_peak() {
        let memory = super::of(std::process::id());
        assert!(memory.resident > 100_000 && memory.resident <= memory.peak);
    }
}
