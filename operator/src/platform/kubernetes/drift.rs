//! Whether a live object is what we rendered. Pure.
//!
//! What the API server adds (defaults, status, fields of others) is no difference; what somebody
//! changed in a field of ours is one (H60). A digest in an annotation tells what a comparison of
//! fields cannot: that we once rendered a field which we no longer do.

use serde_json::Value;

use super::objects::RENDERED;

/// The annotation of a live object.
pub(super) fn annotation<'a>(live: &'a Value, key: &str) -> Option<&'a str> {
    live.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

/// The live object carries this digest, and every field of ours.
pub(super) fn is_as_rendered(live: &Value, rendered: &Value, digest: &str) -> bool {
    annotation(live, RENDERED) == Some(digest) && holds(live, rendered, false)
}

/// Every field of `ours` is in `live`. `in_quantities`: strings are amounts, which the API server
/// writes in its own way.
pub(super) fn holds(live: &Value, ours: &Value, in_quantities: bool) -> bool {
    match (live, ours) {
        (Value::Object(live), Value::Object(ours)) => ours.iter().all(|(key, ours)| {
            let amounts = in_quantities || matches!(key.as_str(), "requests" | "limits");
            match live.get(key) {
                Some(live) => holds(live, ours, amounts),
                // The API server leaves zero values out.
                None => is_zero(ours),
            }
        }),
        (Value::Array(live), Value::Array(ours)) => {
            let at = |index: usize, ours: &Value| match ours.get("name") {
                Some(name) => live.iter().find(|live| live.get("name") == Some(name)),
                None => live.get(index),
            };
            ours.iter().enumerate().all(|(index, ours)| {
                at(index, ours).is_some_and(|live| holds(live, ours, in_quantities))
            })
        }
        (Value::String(live), Value::String(ours)) if in_quantities => {
            live == ours || amount(live).is_some_and(|live| amount(ours) == Some(live))
        }
        // Amounts may have been numbers.
        (Value::String(live), Value::Number(ours)) if in_quantities => {
            amount(live).is_some_and(|live| amount(&ours.to_string()) == Some(live))
        }
        (live, ours) => live == ours,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_zero),
        Value::Bool(true) => false,
    }
}

/// A quantity in billionths.
fn amount(text: &str) -> Option<i128> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, suffix) = text.split_at(digits.unwrap_or(text.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || fraction.len() > 9 {
        return None;
    }
    let scale: i128 = match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => 1_000_000_000,
        _ => 1_000_000_000 * i128::from(crate::quantity::bytes(&format!("1{suffix}"))?),
    };
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let divisor = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    Some(mantissa.checked_mul(scale)? / divisor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_server_adds_is_no_difference_and_what_somebody_changes_is() {
        let ours = json!({"a": 1, "list": [{"name": "x", "v": 1}], "off": false, "none": ""});
        let live = json!({"a": 1, "list": [{"name": "w"}, {"name": "x", "v": 1, "d": 2}], "b": 3});
        assert!(holds(&live, &ours, false));
        for changed in [
            json!({"a": 2, "list": [{"name": "x", "v": 1}]}),
            json!({"a": 1, "list": [{"name": "x", "v": 2}]}),
            json!({"a": 1, "list": []}),
            json!({"a": 1}),
            json!({"a": 1, "list": [{"name": "x", "v": 1}], "off": true}),
        ] {
            assert!(!holds(&changed, &ours, false), "{changed}");
        }
    }

    #[test]
    fn amounts_are_compared_by_value_and_other_texts_are_not() {
        let ours = json!({"requests": {"cpu": "0.5", "memory": "1024Mi"}, "args": ["1000m"]});
        let live = json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "args": ["1000m"]});
        assert!(holds(&live, &ours, false));
        let less = json!({"requests": {"cpu": "499m", "memory": "1Gi"}, "args": ["1000m"]});
        assert!(!holds(&less, &ours, false));
        let args = json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "args": ["1"]});
        assert!(!holds(&args, &ours, false));
    }
}
