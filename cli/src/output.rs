//! How results look: aligned tables, JSON, bare lines, and bytes that may not be text.
//!
//! Must not know: where the values come from.

use std::io::{IsTerminal, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quorate_api::mvccpb::KeyValue;
use serde_json::{Map, Value, json};

use crate::args::{Common, Format};
use crate::failure::Failure;

/// Where a command prints its result, and how.
pub struct Printer {
    format: Format,
    terminal: bool,
}

impl Printer {
    /// The format asked for, or the one that fits the command.
    pub fn new(common: &Common, default: Format) -> Printer {
        Printer {
            format: common.output.unwrap_or(default),
            terminal: std::io::stdout().is_terminal(),
        }
    }

    /// The format in force.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether a person looks at the output: then bytes that are no text are escaped.
    pub fn terminal(&self) -> bool {
        self.terminal
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// Standard output cannot be written, except that its reader has gone away (`| head`): that ends
    /// the process quietly, as other tools do.
    pub fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => Err(Failure::refused(format!(
                "standard output cannot be written: {error}. The command itself was carried out."
            ))),
        }
    }

    /// Writes one line.
    ///
    /// # Errors
    /// As [`Printer::raw`].
    pub fn line(&self, line: impl AsRef<str>) -> Result<(), Failure> {
        self.raw(format!("{}\n", line.as_ref()).as_bytes())
    }

    /// Writes bytes and an end of line; for a person, what is no text is escaped.
    ///
    /// # Errors
    /// As [`Printer::raw`].
    pub fn bytes_line(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut line = if self.terminal {
            escaped(bytes).into_bytes()
        } else {
            bytes.to_vec()
        };
        line.push(b'\n');
        self.raw(&line)
    }

    /// Writes one JSON document.
    ///
    /// # Errors
    /// As [`Printer::raw`].
    pub fn json(&self, value: &Value) -> Result<(), Failure> {
        self.line(value.to_string())
    }

    /// Writes an aligned table.
    ///
    /// # Errors
    /// As [`Printer::raw`].
    pub fn table(&self, table: &Table) -> Result<(), Failure> {
        self.raw(table.to_string().as_bytes())
    }
}

/// Rows under a heading, aligned by the widest cell.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with its heading and no rows.
    pub fn new(heading: &[&str]) -> Table {
        Table {
            rows: vec![heading.iter().map(|cell| (*cell).to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 3));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Bytes for a person: text as it is, control characters and invalid UTF-8 as `\xNN`.
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\r' => text.push_str("\\r"),
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => text.extend(c.escape_unicode()),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// A key as it appears in messages: escaped, in quotes, cut when it is long.
pub fn shown(key: &[u8]) -> String {
    const SHOWN_MAX: usize = 60;
    let text = escaped(key);
    match text.char_indices().nth(SHOWN_MAX) {
        None => format!("\"{text}\""),
        Some((cut, _)) => format!("\"{}…\" ({} bytes)", &text[..cut], key.len()),
    }
}

/// Puts bytes into a JSON object: under `name` when they are UTF-8, else as `name_base64`.
pub fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), json!(text)),
        Err(_) => object.insert(format!("{name}_base64"), json!(STANDARD.encode(bytes))),
    };
}

/// A key with its value and history as a JSON object.
pub fn key_value(kv: &KeyValue, keys_only: bool) -> Value {
    let mut object = Map::new();
    put_bytes(&mut object, "key", &kv.key);
    if !keys_only {
        put_bytes(&mut object, "value", &kv.value);
    }
    object.insert("create_revision".into(), json!(kv.create_revision));
    object.insert("mod_revision".into(), json!(kv.mod_revision));
    object.insert("version".into(), json!(kv.version));
    if kv.lease != 0 {
        object.insert("lease".into(), json!(hex(kv.lease.cast_unsigned())));
    }
    Value::Object(object)
}

/// A 64-bit ID as etcd's tools print it: lower-case hexadecimal without padding. IDs are text in
/// JSON because numbers there lose their low bits.
pub fn hex(id: u64) -> String {
    format!("{id:x}")
}

/// The standard header of an answer as JSON.
pub fn header(header: Option<&quorate_api::etcdserverpb::ResponseHeader>) -> Value {
    header.map_or(Value::Null, |header| {
        json!({
            "cluster_id": hex(header.cluster_id),
            "member_id": hex(header.member_id),
            "revision": header.revision,
            "raft_term": header.raft_term,
        })
    })
}

/// A size for a person, in binary units.
pub fn size(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut whole, mut rest, mut unit) = (bytes.max(0), 0, 0);
    while whole >= 1024 && unit + 1 < UNITS.len() {
        rest = whole % 1024 * 10 / 1024;
        whole /= 1024;
        unit += 1;
    }
    if unit == 0 {
        format!("{whole} B")
    } else {
        format!("{whole}.{rest} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["KEY", "VALUE"]);
        table.row(vec!["a".into(), "1".into()]);
        table.row(vec!["größer".into(), String::new()]);
        assert_eq!(table.to_string(), "KEY      VALUE\na        1\ngrößer\n");
    }

    #[test]
    fn bytes_that_are_no_text_are_escaped() {
        assert_eq!(escaped("grün\n".as_bytes()), "grün\\n");
        assert_eq!(escaped(b"a\xff\x00\\"), "a\\xff\\u{0}\\\\");
    }

    #[test]
    fn long_keys_are_cut_in_messages() {
        let text = shown(&[b'k'; 100]);
        assert!(text.ends_with("…\" (100 bytes)"), "{text}");
        assert_eq!(shown(b"k"), "\"k\"");
    }

    #[test]
    fn json_keeps_every_byte() {
        let mut object = Map::new();
        put_bytes(&mut object, "key", b"text");
        put_bytes(&mut object, "value", b"\xff\xfe");
        assert_eq!(
            Value::Object(object),
            json!({"key": "text", "value_base64": "//4="})
        );
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(
            [size(0), size(1023), size(1536), size(3 << 30)],
            ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]
        );
    }
}
