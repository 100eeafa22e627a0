//! Sizes and durations as users write them.
//!
//! Must not know: which field they are read for.

/// Units of Kubernetes quantities that make sense for bytes.
const UNITS: [(&str, u64); 11] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("", 1),
];

/// Bytes of a quantity such as `8Gi`, `1.5Ti` or `500M`; `None` when it is none.
#[must_use]
pub fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = UNITS.iter().find_map(|(suffix, unit)| {
        let number = text.strip_suffix(suffix)?;
        number
            .ends_with(|last: char| last.is_ascii_digit() || last == '.')
            .then_some((number, *unit))
    })?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole)
        || !digits(fraction)
        || whole.len() + fraction.len() == 0
        || fraction.len() > 9
    {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
    u64::try_from(mantissa.checked_mul(u128::from(unit))?.div_ceil(scale)).ok()
}

/// A size as people read it: `1.5Gi`.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    for (suffix, unit) in [("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)] {
        if bytes >= 1 << unit {
            let tenths = (u128::from(bytes) * 10) >> unit;
            return match tenths % 10 {
                0 => format!("{}{suffix}", tenths / 10),
                rest => format!("{}.{rest}{suffix}", tenths / 10),
            };
        }
    }
    bytes.to_string()
}

/// Milliseconds of a duration such as `15m`, `1h30m` or `90s`; `None` when it is none.
#[must_use]
pub fn duration_ms(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total: i64 = 0;
    for (unit, ms) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if let Some((number, tail)) = rest.split_once(unit) {
            let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            // The unit belongs to a later part: `m` in `5s` does not occur, `s` after `x` does.
            if !is_number {
                return None;
            }
            total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(ms)?)?;
            rest = tail;
        }
    }
    (rest.is_empty() && !text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("8Gi", Some(8 << 30)),
            ("1.5Gi", Some(3 << 29)),
            ("500M", Some(500_000_000)),
            ("67108864", Some(64 << 20)),
            ("64 Mi", None),
            ("", None),
            ("Gi", None),
            (".", None),
            ("-1Gi", None),
            ("1e3", None),
            ("99999999999Pi", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_shown_with_one_digit_at_most() {
        assert_eq!(show_bytes(3 << 29), "1.5Gi");
        assert_eq!(show_bytes(8 << 30), "8Gi");
        assert_eq!(show_bytes(12), "12");
    }

    #[test]
    fn durations_are_read_from_the_largest_unit_down() {
        for (text, expected) in [
            ("15m", Some(900_000)),
            ("1h30m", Some(5_400_000)),
            ("90s", Some(90_000)),
            ("", None),
            ("5", None),
            ("5s1h", None),
            ("m", None),
            ("-5m", None),
            ("9999999999999999h", None),
        ] {
            assert_eq!(duration_ms(text), expected, "{text:?}");
        }
    }
}
