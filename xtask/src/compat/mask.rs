//! What may differ between two runs, and only that, is taken out of what etcdctl printed.
//!
//! Terms, Raft indexes, database sizes and durations become `*`. A hash becomes its place among the
//! hashes of the same answer, so that it still shows who agrees with whom. The ID of a member that
//! was added while running, which etcd derives from the clock, becomes `<added N>`; as it also
//! decides the order of lists, lines with it are compared in sorted order.

use serde_json::Value;
use std::collections::BTreeSet;

/// JSON fields that legitimately differ between two runs.
const MASKED_FIELDS: &[&str] = &[
    "raft_term",
    "raftTerm",
    "raftIndex",
    "raftAppliedIndex",
    "dbSize",
    "dbSizeInUse",
    "took",
];
/// The same in etcdctl's format of one field a line, and durations in sentences.
const MASKED_LINES: &[&str] = &[
    "\"RaftTerm\" : ",
    "\"RaftIndex\" : ",
    "\"RaftAppliedIndex\" : ",
    "\"DBSize\" : ",
    "\"DBSizeInUse\" : ",
    "\"Hash\" : ",
    "\"Took\" : ",
    "took = ",
];
/// The same as headings of a table.
const MASKED_COLUMNS: &[&str] = &[
    "DB SIZE",
    "IN USE",
    "PERCENTAGE NOT IN USE",
    "RAFT TERM",
    "RAFT INDEX",
    "RAFT APPLIED INDEX",
    "HASH",
    "TOOK",
];
/// The same by their place in the line that `endpoint status` prints, and how long that line is.
const MASKED_PLACES: (&[usize], usize) = (&[4, 5, 6, 10, 11, 12], 16);
/// Digits of an ID, without its leading zeros.
const ID_LETTERS: usize = 16;
/// A hexadecimal word of this length is an ID.
const ID_LETTERS_MIN: usize = 14;

/// The IDs that were given out while running.
#[derive(Default)]
pub struct Added {
    first: BTreeSet<String>,
    added: Vec<String>,
}

impl Added {
    /// Beside the members of the beginning, whose IDs are compared as they are.
    pub fn beside(first: &[String]) -> Self {
        Self {
            first: first.iter().cloned().collect(),
            added: Vec::new(),
        }
    }

    /// Notes an ID, in hexadecimal.
    pub fn learn(&mut self, id: &str) {
        if !self.first.contains(id) && !self.added.iter().any(|added| added == id) {
            self.added.push(id.to_owned());
        }
    }

    /// Replaces every ID that was noted.
    pub fn mask(&self, text: &str) -> String {
        let mut masked = text.to_owned();
        for (number, id) in self.added.iter().enumerate() {
            let name = format!("<added {}>", number + 1);
            // Leading zeros are not printed: sentences and tables put a space for each.
            for zeros in (1..=ID_LETTERS.saturating_sub(id.len())).rev() {
                let padded = format!(" {:zeros$}{id}", "");
                masked = masked.replace(&padded, &format!(" {name}"));
            }
            masked = masked.replace(id, &name);
            if let Ok(id) = u64::from_str_radix(id, 16) {
                masked = masked.replace(&id.to_string(), &format!("\"{name}\""));
            }
        }
        if masked == text {
            masked
        } else {
            in_order(&masked)
        }
    }
}

/// Standard output, as JSON where it is JSON.
pub fn output(text: &str) -> String {
    if let Ok(mut value) = serde_json::from_str::<Value>(text) {
        json(&mut value, &mut Vec::new());
        return format!("{value:#}\n");
    }
    let columns = masked_columns(text);
    let mut masked = String::new();
    for line in text.lines() {
        masked.push_str(&text_line(line, &columns));
        masked.push('\n');
    }
    masked
}

/// The places of the columns to mask, in a table that has any.
fn masked_columns(text: &str) -> Vec<usize> {
    let heading = text.lines().nth(1).unwrap_or_default();
    let cells = heading.split('│').map(str::trim).enumerate();
    let masked = cells.filter(|(_, cell)| MASKED_COLUMNS.contains(cell));
    masked.map(|(place, _)| place).collect()
}

fn text_line(line: &str, columns: &[usize]) -> String {
    let cut = MASKED_LINES.iter().find_map(|mark| {
        let (head, _) = line.split_once(mark)?;
        Some(format!("{head}{mark}*"))
    });
    if let Some(cut) = cut {
        return cut;
    }
    // The widths of columns follow from what is in them, so the frame of a masked table goes, too.
    if !columns.is_empty() {
        let cells: Vec<&str> = line.split('│').map(str::trim).collect();
        return match cells.len() {
            1 => "─".to_owned(),
            _ => without(&cells, columns, " │ "),
        };
    }
    let fields: Vec<&str> = line.split(", ").collect();
    let (places, length) = MASKED_PLACES;
    if fields.len() == length {
        return without(&fields, places, ", ");
    }
    line.to_owned()
}

fn without(cells: &[&str], places: &[usize], separator: &str) -> String {
    let mut cells = cells.to_vec();
    for place in places {
        if let Some(cell) = cells.get_mut(*place) {
            *cell = "*";
        }
    }
    cells.join(separator)
}

/// Standard error, without what the client library logs about its own retries.
pub fn errors(text: &str) -> String {
    let kept = text.lines().filter(|line| !line.starts_with('{'));
    output(&kept.map(|line| format!("{line}\n")).collect::<String>())
}

/// The lines in sorted order; the last, the exit code, stays where it is.
pub fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let last = lines.pop();
    lines.sort_unstable();
    lines.extend(last);
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Replaces hexadecimal words and decimal numbers long enough to be IDs.
pub fn ids(text: &str) -> String {
    let (mut masked, mut word) = (String::new(), String::new());
    for letter in text.chars().chain(['\n']) {
        if letter.is_ascii_alphanumeric() {
            word.push(letter);
            continue;
        }
        let id =
            word.len() >= ID_LETTERS_MIN && word.chars().all(|digit| digit.is_ascii_hexdigit());
        masked.push_str(if id { "<id>" } else { &word });
        word.clear();
        masked.push(letter);
    }
    masked.pop();
    masked
}

/// Sorts what an ID puts in order: members in JSON, rows of a list, the initial cluster.
fn in_order(text: &str) -> String {
    let Some((body, exit)) = text.rsplit_once("exit ") else {
        return text.to_owned();
    };
    if let Ok(mut value) = serde_json::from_str::<Value>(body) {
        if let Some(members) = value["members"].as_array_mut() {
            members.sort_by_key(Value::to_string);
        }
        return format!("{value:#}\nexit {exit}");
    }
    let mut lines: Vec<String> = body.lines().map(list_in_order).collect();
    if lines
        .iter()
        .any(|line| line.contains(", started, ") || line.contains('│'))
    {
        lines.sort_unstable();
    }
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    format!("{lines}exit {exit}")
}

fn list_in_order(line: &str) -> String {
    let Some(list) = line.strip_prefix("ETCD_INITIAL_CLUSTER=\"") else {
        return line.to_owned();
    };
    let mut members: Vec<&str> = list.trim_end_matches('"').split(',').collect();
    members.sort_unstable();
    format!("ETCD_INITIAL_CLUSTER=\"{}\"", members.join(","))
}

fn json(value: &mut Value, hashes: &mut Vec<Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if MASKED_FIELDS.contains(&name.as_str()) {
                    *value = Value::from("*");
                } else if name == "hash" {
                    *value = Value::from(place(value, hashes));
                } else {
                    json(value, hashes);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| json(item, hashes)),
        _ => {}
    }
}

fn place(value: &Value, seen: &mut Vec<Value>) -> String {
    let place = seen.iter().position(|other| other == value);
    let place = place.unwrap_or_else(|| {
        seen.push(value.clone());
        seen.len() - 1
    });
    format!("<hash {}>", place + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_are_masked() {
        assert_eq!(
            ids("8e9e05c52164694d, started, m0\n"),
            "<id>, started, m0\n"
        );
        assert_eq!(
            output("127.0.0.1:1 is healthy: took = 1.2ms"),
            "127.0.0.1:1 is healthy: took = *\n"
        );
    }

    #[test]
    fn hashes_show_who_agrees() {
        let masked = output(r#"[{"hash":5},{"hash":7},{"hash":5}]"#);
        let value: Value = serde_json::from_str(&masked).unwrap();
        let hashes: Vec<&str> = (0..3).filter_map(|n| value[n]["hash"].as_str()).collect();
        assert_eq!(hashes, ["<hash 1>", "<hash 2>", "<hash 1>"]);
    }

    #[test]
    fn an_added_member_is_named_and_its_place_in_a_list_does_not_matter() {
        let mut added = Added::beside(&["8e9e05c52164694d".to_owned()]);
        added.learn("8e9e05c52164694d");
        added.learn("ff00000000000001");
        let list = "8e9e05c52164694d, started, m0\nff00000000000001, unstarted, \nexit 0\n";
        let other = "ff00000000000001, unstarted, \n8e9e05c52164694d, started, m0\nexit 0\n";
        assert_eq!(added.mask(list), added.mask(other));
        assert!(added.mask(list).contains("<added 1>, unstarted"));
        assert!(
            added
                .mask("{\"ID\":18374686479671623681}\nexit 0\n")
                .contains("<added 1>")
        );
    }

    #[test]
    fn an_id_with_leading_zeros_is_named_like_any_other() {
        let texts = |id: &str| {
            let mut added = Added::beside(&[]);
            added.learn(id);
            [
                added.mask(&format!("Member {id:>16} promoted\nexit 0\n")),
                added.mask(&format!("│ {id:>16} │ started │\nexit 0\n")),
                added.mask(&format!("{id}, started, m3\nexit 0\n")),
            ]
        };
        let plain = texts("f00dfeed0badcafe");
        for short in ["dfeed0badcafe12", "eed0badcafe123", "d0badcafe1234"] {
            assert_eq!(texts(short), plain, "{short}");
        }
    }
}
