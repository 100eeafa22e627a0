//! A tree against the resource's schema: unknown fields, types, enumerations, bounds.
//!
//! What the schema cannot say without patterns and rules is checked by `validate`.

use serde_json::{Map, Value, json};
use serde_saphyr::Location;

use super::tree::{Node, Tree};

/// What is wrong, and where.
pub(super) struct Wrong {
    pub location: Location,
    pub path: String,
    pub problem: String,
}

fn wrong(location: Location, path: &str, problem: impl Into<String>) -> Wrong {
    Wrong {
        location,
        path: path.to_owned(),
        problem: problem.into(),
    }
}

/// Checks a whole resource.
pub(super) fn check(document: &Tree, schema: &Value) -> Result<(), Wrong> {
    let mut schema = schema.clone();
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        // The resource's schema leaves these to the API server.
        fields.insert("metadata".to_owned(), metadata());
        for name in ["apiVersion", "kind"] {
            fields.insert(name.to_owned(), json!({ "type": "string" }));
        }
        if document.field("status").is_some() {
            let location = document
                .field("status")
                .map_or(document.location, |tree| tree.location);
            return Err(wrong(
                location,
                "status",
                "is written by the operator; remove it",
            ));
        }
        fields.remove("status");
    }
    if let Some(root) = schema.as_object_mut() {
        root.insert("required".to_owned(), json!(["metadata", "spec"]));
    }
    value(document, &schema, "")
}

/// What may be written into metadata by hand, or by whoever exports an object.
fn metadata() -> Value {
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": { "type": "string" },
            "namespace": { "type": "string" },
            "labels": texts,
            "annotations": texts,
            "finalizers": { "type": "array", "items": { "type": "string" } },
            "uid": { "type": "string" },
            "resourceVersion": { "type": "string" },
            "generation": { "type": "integer" },
            "creationTimestamp": { "type": "string" },
        }
    })
}

/// One value against its schema.
fn value(tree: &Tree, schema: &Value, path: &str) -> Result<(), Wrong> {
    let Some(schema) = schema.as_object() else {
        return Ok(());
    };
    let expected = schema.get("type").and_then(Value::as_str);
    match (&tree.node, expected) {
        // Null means the same as leaving the field out.
        (Node::Null, _) | (_, None) => Ok(()),
        (Node::Fields(fields), Some("object")) => object(tree, fields, schema, path),
        (Node::List(items), Some("array")) => array(tree, items, schema, path),
        (Node::Text(text), Some("string")) => string(tree, text, schema, path),
        (Node::Number(number), Some("integer" | "number")) => {
            let whole = number.as_i64().is_some();
            if expected == Some("integer") && !whole {
                return Err(wrong(
                    tree.location,
                    path,
                    format!("{number} is no whole number"),
                ));
            }
            range(tree, number.as_f64().unwrap_or(f64::NAN), schema, path)
        }
        (Node::Bool(_), Some("boolean")) => Ok(()),
        (node, Some(expected)) => Err(wrong(tree.location, path, mismatch(node, expected))),
    }
}

/// What was found instead, and what to write.
fn mismatch(node: &Node, expected: &str) -> String {
    let wanted = match expected {
        "object" => "fields are wanted here",
        "array" => "a list is wanted here",
        "integer" => "a whole number is wanted here",
        "number" => "a number is wanted here",
        "boolean" => "`true` or `false` is wanted here",
        _ => "text is wanted here",
    };
    match node {
        Node::Number(number) if expected == "string" => {
            format!("{number} is a number; put it in quotes: \"{number}\"")
        }
        Node::Bool(value) if expected == "string" => {
            format!("{value} is a truth value; put it in quotes: \"{value}\"")
        }
        Node::Number(number) => format!("{number} is a number; {wanted}"),
        Node::Bool(value) => format!("{value} is a truth value; {wanted}"),
        Node::Text(text) => format!("`{}` is text; {wanted}", shortened(text)),
        Node::List(_) => format!("this is a list; {wanted}"),
        Node::Fields(_) => format!("these are fields; {wanted}"),
        Node::Null => wanted.to_owned(),
    }
}

/// The beginning of a text, for messages.
fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

fn object(
    tree: &Tree,
    fields: &[(String, Location, Tree)],
    schema: &Map<String, Value>,
    path: &str,
) -> Result<(), Wrong> {
    let below = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    let known = schema.get("properties").and_then(Value::as_object);
    let free = schema.get("additionalProperties");
    for (key, location, field) in fields {
        let path = below(key);
        if let Some(schema) = known.and_then(|known| known.get(key)) {
            value(field, schema, &path)?;
        } else if let Some(schema) = free {
            value(field, schema, &path)?;
        } else if let Some(known) = known {
            let problem = match nearest(key, known.keys()) {
                Some(name) => format!("is not a field; did you mean `{name}`?"),
                None => format!("is not a field; known here: {}", names(known)),
            };
            return Err(wrong(*location, &path, problem));
        }
    }
    if let Some(limit) = schema.get("maxProperties").and_then(Value::as_u64)
        && fields.len() as u64 > limit
    {
        let count = fields.len();
        return Err(wrong(
            tree.location,
            path,
            format!("has {count} entries; {limit} are allowed"),
        ));
    }
    for name in schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let name = name.as_str().unwrap_or_default();
        let present = fields
            .iter()
            .any(|(key, _, field)| key == name && field.node != Node::Null);
        if !present {
            return Err(wrong(tree.location, &below(name), "is missing"));
        }
    }
    Ok(())
}

fn array(
    tree: &Tree,
    items: &[Tree],
    schema: &Map<String, Value>,
    path: &str,
) -> Result<(), Wrong> {
    if let Some(limit) = schema.get("maxItems").and_then(Value::as_u64)
        && items.len() as u64 > limit
    {
        let count = items.len();
        return Err(wrong(
            tree.location,
            path,
            format!("has {count} items; {limit} are allowed"),
        ));
    }
    let Some(schema) = schema.get("items") else {
        return Ok(());
    };
    for (index, item) in items.iter().enumerate() {
        value(item, schema, &format!("{path}[{index}]"))?;
    }
    Ok(())
}

fn string(tree: &Tree, text: &str, schema: &Map<String, Value>, path: &str) -> Result<(), Wrong> {
    if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
        let names: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
        if !names.contains(&text) {
            let names = names.join(", ");
            let problem = format!("`{}` is not known; write one of {names}", shortened(text));
            return Err(wrong(tree.location, path, problem));
        }
    }
    let length = text.chars().count() as u64;
    if let Some(limit) = schema.get("maxLength").and_then(Value::as_u64)
        && length > limit
    {
        let problem = format!("has {length} characters; {limit} are allowed");
        return Err(wrong(tree.location, path, problem));
    }
    if let Some(least) = schema.get("minLength").and_then(Value::as_u64)
        && length < least
    {
        return Err(wrong(tree.location, path, "is empty"));
    }
    Ok(())
}

fn range(tree: &Tree, number: f64, schema: &Map<String, Value>, path: &str) -> Result<(), Wrong> {
    let limit = |name: &str| schema.get(name).and_then(Value::as_f64);
    let (least, most) = (limit("minimum"), limit("maximum"));
    if least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most) {
        return Ok(());
    }
    let problem = match (least, most) {
        (Some(least), Some(most)) => format!("{number} is out of range; use {least} to {most}"),
        (Some(least), None) => format!("{number} is out of range; use {least} or more"),
        (_, Some(most)) => format!("{number} is out of range; use {most} or less"),
        (None, None) => format!("{number} is out of range"),
    };
    Err(wrong(tree.location, path, problem))
}

fn names(known: &Map<String, Value>) -> String {
    known.keys().cloned().collect::<Vec<_>>().join(", ")
}

/// The known name that a wrong one was probably meant to be.
fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    let limit = (wrong.chars().count() / 3).max(1);
    known
        .map(|name| (distance(&wrong.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// How many characters must be inserted, dropped or changed to get from one to the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, left) in left.chars().enumerate() {
        let mut corner = above;
        let mut before = above + 1;
        row[0] = before;
        for (at, right) in right.iter().enumerate() {
            let changed = corner + usize::from(left != *right);
            corner = row[at + 1];
            before = changed.min(corner + 1).min(before + 1);
            row[at + 1] = before;
        }
    }
    row[right.len()]
}
