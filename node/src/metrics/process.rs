//! What every Prometheus target tells about its process, read from `/proc` when scraped.
//!
//! Caveat: where `/proc` is missing the values stay at zero; nothing else depends on them.

use super::family::{gauge, register};
use prometheus::{Counter, Gauge, IntGauge, Registry};
use std::fs;

/// The families `process_*` and `os_fd_*`.
pub(super) struct ProcessMetrics {
    cpu_seconds: Counter,
    start_seconds: Gauge,
    resident_bytes: IntGauge,
    virtual_bytes: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
    os_fd_used: IntGauge,
    os_fd_limit: IntGauge,
}

/// The fields of `/proc/self/stat` that we use.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl ProcessMetrics {
    pub(super) fn new(r: &Registry) -> Self {
        let float = |name: &str, help: &str| register(r, Gauge::new(name, help));
        Self {
            cpu_seconds: register(
                r,
                Counter::new(
                    "process_cpu_seconds_total",
                    "User and system time of the process.",
                ),
            ),
            start_seconds: float(
                "process_start_time_seconds",
                "Unix time at which the process began.",
            ),
            resident_bytes: gauge(r, "process_resident_memory_bytes", "Resident memory."),
            virtual_bytes: gauge(r, "process_virtual_memory_bytes", "Virtual memory."),
            open_fds: gauge(r, "process_open_fds", "Open file descriptors."),
            max_fds: gauge(r, "process_max_fds", "Limit of open file descriptors."),
            os_fd_used: gauge(r, "os_fd_used", "Open file descriptors."),
            os_fd_limit: gauge(r, "os_fd_limit", "Limit of open file descriptors."),
        }
    }

    /// Reads the current values.
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds in a float, as Prometheus wants them"
    )]
    pub(super) fn refresh(&self) {
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1) as f64;
        if let Some(stat) = fs::read_to_string("/proc/self/stat")
            .ok()
            .as_deref()
            .and_then(parse)
        {
            let cpu = stat.cpu_ticks as f64 / ticks_per_second;
            self.cpu_seconds
                .inc_by((cpu - self.cpu_seconds.get()).max(0.0));
            let page_bytes = rustix::param::page_size() as u64;
            self.resident_bytes
                .set(signed(stat.resident_pages * page_bytes));
            self.virtual_bytes.set(signed(stat.virtual_bytes));
            if let Some(boot) = boot_unix_seconds() {
                self.start_seconds
                    .set(boot as f64 + stat.start_ticks as f64 / ticks_per_second);
            }
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            let open = signed(entries.count() as u64);
            self.open_fds.set(open);
            self.os_fd_used.set(open);
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let limit = signed(limit.current.unwrap_or(u64::MAX));
        self.max_fds.set(limit);
        self.os_fd_limit.set(limit);
    }
}

/// The name of the program, in parentheses, may contain anything, so fields count from the last
/// closing one.
fn parse(stat: &str) -> Option<Stat> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        cpu_ticks: number(11)? + number(12)?,
        start_ticks: number(19)?,
        virtual_bytes: number(20)?,
        resident_pages: number(21)?,
    })
}

fn boot_unix_seconds() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_may_contain_anything() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194304 9 0 0 0 120 34 0 0 20 0 3 0 5550 1048576 77 1";
        let stat = parse(line).unwrap();
        let expected = Stat {
            cpu_ticks: 154,
            start_ticks: 5550,
            virtual_bytes: 1_048_576,
            resident_pages: 77,
        };
        assert_eq!(stat, expected);
        assert_eq!(parse("7 (x) S 1"), None);
    }
}
