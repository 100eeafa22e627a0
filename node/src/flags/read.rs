//! Arguments and environment as a map from flag to text: syntax only, no meaning.
//!
//! Follows Go's flag syntax, which etcd uses: one or two dashes, `--flag=value` or `--flag value`,
//! a boolean without a value is true. The same option as flag and as variable is an error.

use super::UsageError;
use super::table::{Flag, Kind, Mark, flags};
use std::collections::BTreeMap;

/// Longest accepted argument, bytes: more than any list of members needs.
const ARGUMENT_BYTES_MAX: usize = 64 * 1024;

/// Variables that start with `ETCD_` and are not flags.
const NOT_FLAGS: &[&str] = &["ETCD_VERSION", "ETCD_UNSUPPORTED_ARCH"];

/// What was given, by flag name.
#[derive(Debug, Default)]
pub(super) struct Raw {
    values: BTreeMap<&'static str, String>,
    pub(super) help: bool,
    pub(super) version: bool,
    pub(super) warnings: Vec<String>,
}

impl Raw {
    /// What was given elsewhere, by names that are flags.
    pub(super) fn of(values: BTreeMap<&'static str, String>) -> Self {
        Self {
            values,
            ..Self::default()
        }
    }

    /// Whether the user gave this flag, by argument or variable.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The given value or the default.
    pub(super) fn text(&self, name: &str) -> &str {
        self.values
            .get(name)
            .map_or_else(|| default(name), String::as_str)
    }

    /// The value as a number.
    pub(super) fn number(&self, name: &str) -> Result<i64, UsageError> {
        let text = self.text(name);
        text.parse()
            .map_err(|_| UsageError::invalid(format!("--{name} \"{text}\" is not a whole number")))
    }

    /// The value as a boolean.
    pub(super) fn bool(&self, name: &str) -> Result<bool, UsageError> {
        match self.text(name) {
            "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
            "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
            text => Err(UsageError::invalid(format!(
                "--{name} \"{text}\" is neither true nor false"
            ))),
        }
    }
}

fn default(name: &str) -> &'static str {
    flags()
        .iter()
        .find(|flag| flag.name == name)
        .map_or("", |flag| flag.default)
}

/// Reads arguments, then variables.
pub(super) fn read(args: &[String], env: &BTreeMap<String, String>) -> Result<Raw, UsageError> {
    let mut raw = Raw::default();
    let mut rest = args.iter();
    while let Some(argument) = rest.next() {
        read_argument(argument, &mut rest, &mut raw)?;
    }
    if !raw.help && !raw.version {
        read_environment(env, &mut raw)?;
        refuse_what_is_not_served(&mut raw)?;
    }
    Ok(raw)
}

fn read_argument<'a>(
    argument: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    raw: &mut Raw,
) -> Result<(), UsageError> {
    if argument.len() > ARGUMENT_BYTES_MAX {
        return Err(UsageError::invalid(format!(
            "an argument of {} bytes is longer than {ARGUMENT_BYTES_MAX}",
            argument.len()
        )));
    }
    let Some(body) = argument
        .strip_prefix("--")
        .or_else(|| argument.strip_prefix('-'))
    else {
        return Err(UsageError::invalid(format!(
            "\"{argument}\" is not a flag; flags start with --, and a value with spaces is quoted"
        )));
    };
    let (name, value) = match body.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (body, None),
    };
    match name {
        "help" | "h" => raw.help = true,
        "version" => raw.version = true,
        _ => {
            let flag = find(name)?;
            let value = match (value, flag.kind) {
                (Some(value), _) => value,
                (None, Kind::Bool) => "true".to_owned(),
                (None, Kind::Text | Kind::Number) => rest.next().cloned().ok_or_else(|| {
                    UsageError::unknown(format!("--{name} needs a value: --{name}=…"))
                })?,
            };
            raw.values.insert(flag.name, value);
        }
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static Flag, UsageError> {
    // Releases up to 3.6 spell some flags with this prefix; installers still pass it.
    let plain = name.strip_prefix("experimental-").unwrap_or(name);
    flags()
        .iter()
        .find(|flag| flag.name == plain)
        .ok_or_else(|| {
            let shown: String = name.chars().take(60).collect();
            UsageError::unknown(match nearest(plain) {
                Some(near) => {
                    format!("flag --{shown} does not exist; did you mean --{near}? See --help")
                }
                None => format!("flag --{shown} does not exist; see --help for those that do"),
            })
        })
}

fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > 60 {
        return None;
    }
    flags()
        .iter()
        .map(|flag| (strsim::damerau_levenshtein(flag.name, name), flag.name))
        .min()
        .filter(|(distance, _)| *distance <= 2 + name.len() / 4)
        .map(|(_, name)| name)
}

fn read_environment(env: &BTreeMap<String, String>, raw: &mut Raw) -> Result<(), UsageError> {
    for (variable, value) in env.range("ETCD_".to_owned()..) {
        let Some(rest) = variable.strip_prefix("ETCD_") else {
            break;
        };
        if NOT_FLAGS.contains(&variable.as_str()) {
            continue;
        }
        let name = rest.to_ascii_lowercase().replace('_', "-");
        let plain = name.strip_prefix("experimental-").unwrap_or(&name);
        let Some(flag) = flags().iter().find(|flag| flag.name == plain) else {
            raw.warnings.push(format!(
                "the variable {variable} belongs to no flag and is ignored"
            ));
            continue;
        };
        if raw.is_set(flag.name) {
            return Err(UsageError::invalid(format!(
                "--{plain} and the variable {variable} are both set; remove one of them"
            )));
        }
        raw.values.insert(flag.name, value.clone());
    }
    Ok(())
}

fn refuse_what_is_not_served(raw: &mut Raw) -> Result<(), UsageError> {
    let mut warnings = Vec::new();
    for flag in flags() {
        let Some(value) = raw.values.get(flag.name) else {
            continue;
        };
        let harmless = value.is_empty() || value == flag.default;
        match flag.mark {
            Mark::Served => {}
            Mark::Accepted if harmless => {}
            Mark::Accepted => {
                warnings.push(format!(
                    "--{}={value} has no effect on this server",
                    flag.name
                ));
            }
            Mark::NotServed if harmless => {}
            Mark::NotServed => {
                return Err(UsageError::invalid(format!(
                    "--{}={value} asks for something that this version does not do; \
                     leave it out to start without it",
                    flag.name
                )));
            }
        }
    }
    raw.warnings.extend(warnings);
    Ok(())
}
