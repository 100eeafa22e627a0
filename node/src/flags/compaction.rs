//! The two flags of automatic compaction: together one value.
//!
//! A retention means what its mode says: time, a bare number counting hours, or revisions. Time is
//! written as in Go.

use super::UsageError;
use super::read::Raw;
use crate::config::AutoCompaction;

/// Shortest retention by time, ms: ten looks a second at most.
const RETENTION_MS_MIN: u64 = 1_000;
/// Longest retention by time, hours: ten years.
const RETENTION_HOURS_MAX: u64 = 87_600;
/// Milliseconds of an hour.
const HOUR_MS: u64 = 3_600_000;
/// Longest text of a retention, bytes.
const TEXT_BYTES_MAX: usize = 64;

/// Digits of a fraction that count: enough to write a nanosecond in hours.
const FRACTION_DIGITS_MAX: usize = 18;

/// Both flags.
pub(super) fn auto_compaction(raw: &Raw) -> Result<AutoCompaction, UsageError> {
    let text = raw.text("auto-compaction-retention");
    // As in etcd, empty stands for the default.
    let text = if text.is_empty() { "0" } else { text };
    if text.len() > TEXT_BYTES_MAX {
        return refuse(text, format!("has more than {TEXT_BYTES_MAX} bytes"));
    }
    if text.starts_with('-') {
        return refuse(
            text,
            "is negative; write 0 to turn compaction off".to_owned(),
        );
    }
    match raw.text("auto-compaction-mode") {
        "periodic" => periodic(text),
        "revision" => revision(text),
        other => Err(UsageError::invalid(format!(
            "--auto-compaction-mode \"{}\" is neither periodic nor revision",
            shown(other)
        ))),
    }
}

fn periodic(text: &str) -> Result<AutoCompaction, UsageError> {
    let ms = match whole_number(text) {
        Some(hours) => Some(hours.saturating_mul(HOUR_MS)),
        None => duration_ns(text).map(to_ms),
    };
    match ms {
        Some(0) => Ok(AutoCompaction::Off),
        Some(ms) if ms < RETENTION_MS_MIN => {
            refuse(text, "is too short; keep at least 1s".to_owned())
        }
        Some(ms) if ms > RETENTION_HOURS_MAX * HOUR_MS => refuse(
            text,
            format!(
                "is too long; keep at most {RETENTION_HOURS_MAX}h, or write 0 to turn compaction \
                 off"
            ),
        ),
        Some(retention_ms) => Ok(AutoCompaction::Periodic { retention_ms }),
        None => refuse(
            text,
            "is no duration; write it as in 30m, 1h30m or 24h. A bare number counts hours, and 0 \
             turns compaction off"
                .to_owned(),
        ),
    }
}

fn revision(text: &str) -> Result<AutoCompaction, UsageError> {
    match whole_number(text) {
        Some(0) => Ok(AutoCompaction::Off),
        Some(keep) => Ok(AutoCompaction::Revision { keep }),
        None => refuse(
            text,
            "is no number of revisions; with --auto-compaction-mode=revision write it as in 10000. \
             0 turns compaction off"
                .to_owned(),
        ),
    }
}

/// A number without unit; one too large for anything counts as the largest.
fn whole_number(text: &str) -> Option<u64> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Nanoseconds of a duration in Go's syntax: `1h30m`, `1.5h`, `300ms`; `None` when it is none.
fn duration_ns(text: &str) -> Option<u128> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut total_ns: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        // Further digits are less than any unit.
        let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
        let is_next = |next: char| next.is_ascii_digit() || next == '.';
        let (unit, tail) = after.split_at(after.find(is_next).unwrap_or(after.len()));
        let unit_ns = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total_ns = total_ns
            .saturating_add(number(whole).saturating_mul(unit_ns))
            .saturating_add(number(fraction) * unit_ns / 10_u128.pow(fraction.len() as u32));
        rest = tail;
    }
    Some(total_ns)
}

/// The digits at the beginning, and what follows.
fn digits(text: &str) -> (&str, &str) {
    let is_other = |next: char| !next.is_ascii_digit();
    text.split_at(text.find(is_other).unwrap_or(text.len()))
}

/// Nothing counts as 0, and what is too large for the type as the largest.
fn number(digits: &str) -> u128 {
    if digits.is_empty() {
        0
    } else {
        digits.parse().unwrap_or(u128::MAX)
    }
}

/// Rounded up, so that only 0 becomes 0.
fn to_ms(ns: u128) -> u64 {
    u64::try_from(ns.div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn refuse(text: &str, why: String) -> Result<AutoCompaction, UsageError> {
    Err(UsageError::invalid(format!(
        "--auto-compaction-retention \"{}\" {why}",
        shown(text)
    )))
}

/// The beginning of a text, on one line.
fn shown(text: &str) -> String {
    let beginning = text.chars().take(TEXT_BYTES_MAX);
    beginning.flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let table = [
            ("1h", Some(3_600_000)),
            ("+1h", Some(3_600_000)),
            ("1h30m", Some(5_400_000)),
            ("30m1h", Some(5_400_000)),
            ("1.5h", Some(5_400_000)),
            (".5s", Some(500)),
            ("1.s", Some(1_000)),
            ("300ms", Some(300)),
            ("1us", Some(1)),
            ("1\u{b5}s", Some(1)),
            ("1\u{3bc}s1ns", Some(1)),
            ("0s", Some(0)),
            ("", None),
            ("+", None),
            (".", None),
            (".h", None),
            ("1", None),
            ("1.5", None),
            ("1e9", None),
            ("1e9s", None),
            ("1H", None),
            ("1d", None),
            ("1h ", None),
            (" 1h", None),
            ("1h-5m", None),
            ("1..5h", None),
            ("\u{661}h", None),
            (
                "99999999999999999999999999999999999999999999h",
                Some(u64::MAX),
            ),
            // As many digits as fit into a text: no overflow.
            (
                "0.999999999999999999999999999999999999999999999h",
                Some(3_600_000),
            ),
        ];
        for (text, ms) in table {
            assert_eq!(duration_ns(text).map(to_ms), ms, "{text}");
        }
    }
}
