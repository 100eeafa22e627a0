//! Which series a PromQL expression reads. Not a parser: it knows just enough of the language to
//! tell metric names from functions, operators, labels and strings.

use std::collections::BTreeSet;

/// Words of the language that are followed by a list of labels.
const LABEL_LISTS: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];
/// Words of the language that stand alone.
const WORDS: [&str; 8] = [
    "and", "or", "unless", "offset", "bool", "inf", "nan", "atan2",
];
/// Aggregations: their parenthesis may come after the labels.
const AGGREGATIONS: [&str; 12] = [
    "sum",
    "min",
    "max",
    "avg",
    "count",
    "group",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "quantile",
    "count_values",
];

/// One selection of series: a name, and what is asked of labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    /// The name of the series.
    pub name: String,
    /// Label, operator (`=`, `!=`, `=~`, `!~`) and value with its quotes.
    pub matchers: Vec<(String, String, String)>,
}

/// The names of the series that `expression` selects.
pub fn metrics(expression: &str) -> BTreeSet<String> {
    let selectors = selectors(expression).into_iter();
    selectors.map(|selector| selector.name).collect()
}

/// The selections of series in `expression`.
pub fn selectors(expression: &str) -> BTreeSet<Selector> {
    let mut found = BTreeSet::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '"' | '\'' | '`' => after_string(rest, first),
            '{' => after_group(rest, '{', '}'),
            '[' => after_group(rest, '[', ']'),
            _ if first.is_ascii_alphabetic() || first == '_' || first == ':' => {
                let (word, after) = word(rest);
                let follows = after.trim_start();
                if LABEL_LISTS.contains(&word) {
                    // `group_left` may stand without labels.
                    match follows.starts_with('(') {
                        true => after_group(follows, '(', ')'),
                        false => after,
                    }
                } else {
                    let call = follows.starts_with('(');
                    if !call && !WORDS.contains(&word) && !AGGREGATIONS.contains(&word) {
                        let group = match follows.starts_with('{') {
                            true => {
                                &follows[1..follows.len() - after_group(follows, '{', '}').len()]
                            }
                            false => "",
                        };
                        found.insert(Selector {
                            name: word.to_owned(),
                            matchers: matchers(group.trim_end_matches('}')),
                        });
                    }
                    after
                }
            }
            // A number with its unit, or a variable of Grafana.
            _ if first.is_ascii_digit() || first == '$' => word(&rest[1..]).1,
            _ => &rest[first.len_utf8()..],
        };
    }
    found
}

/// Takes `label="value", other=~"value"` apart.
fn matchers(group: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut rest = group.trim_start_matches([' ', ',', '\n']);
    while !rest.is_empty() {
        let (label, after) = word(rest);
        let after = after.trim_start();
        let end = after.find(['"', '\'']).unwrap_or(after.len());
        let (operator, quoted) = after.split_at(end);
        let Some(quote) = quoted.chars().next() else {
            break;
        };
        let next = after_string(quoted, quote);
        let value = &quoted[..quoted.len() - next.len()];
        let texts = [label, operator.trim(), value].map(str::to_owned);
        found.push(texts.into());
        rest = next.trim_start_matches([' ', ',', '\n']);
    }
    found
}

fn word(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(text.len());
    text.split_at(end)
}

fn after_string(text: &str, quote: char) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '\\' if !escaped => escaped = true,
            c if c == quote && !escaped => return &text[at + 1..],
            _ => escaped = false,
        }
    }
    ""
}

/// Skips a bracket with everything in it; a bracket inside a string does not count.
fn after_group(text: &str, open: char, close: char) -> &str {
    let mut rest = &text[1..];
    let mut depth = 1;
    while let Some(first) = rest.chars().next() {
        if first == '"' || first == '\'' {
            rest = after_string(rest, first);
            continue;
        }
        rest = &rest[first.len_utf8()..];
        if first == open {
            depth += 1;
        } else if first == close {
            depth -= 1;
            if depth == 0 {
                return rest;
            }
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::{metrics, selectors};

    #[test]
    fn what_is_asked_of_labels_is_taken_apart() {
        let found = selectors("rate(a_total{x=\"b\", y!~\"},{\"}[5m]) / a_total{} + c");
        let shown: Vec<String> = found
            .iter()
            .map(|one| {
                let each = one.matchers.iter();
                let each = each.map(|(label, operator, value)| format!("{label}{operator}{value}"));
                format!("{}: {}", one.name, each.collect::<Vec<_>>().join(" "))
            })
            .collect();
        assert_eq!(shown, ["a_total: ", "a_total: x=\"b\" y!~\"},{\"", "c: "]);
    }

    #[test]
    fn names_are_told_from_functions_labels_and_words() {
        let cases = [
            ("up", "up"),
            (
                "sum by (pod) (rate(a_total{x=\"b_total\", y=~\"}\"}[5m]))",
                "a_total",
            ),
            (
                "histogram_quantile(0.99, sum by (le) (rate(c_bucket[$__rate_interval])))",
                "c_bucket",
            ),
            ("a - on (namespace) group_right () b > 1e3", "a b"),
            ("a / on(x) group_left(y, z) b or vector(0)", "a b"),
            ("max(a) by (b) unless ignoring (c) d offset 5m", "a d"),
            ("absent(up{job=\"x\"} == 1)", "up"),
            ("scalar(max(a)) * 60 == bool 1", "a"),
        ];
        for (expression, expected) in cases {
            let found: Vec<String> = metrics(expression).into_iter().collect();
            assert_eq!(found.join(" "), expected, "{expression}");
        }
    }
}
