//! Log lines: one JSON object a line as etcd prints them (`level`, `ts`, `caller`, `msg`, fields),
//! or plain text for people.
//!
//! Installs a process-wide subscriber once; must not know what is logged.

use crate::flags::{LogConfig, LogOutput};
use std::fmt;
use std::io;
use std::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::registry::LookupSpan;

/// Installs the subscriber of this process.
///
/// # Errors
/// The log file cannot be opened, or a subscriber is installed already.
pub fn init(config: &LogConfig) -> io::Result<()> {
    // Chatter of the HTTP stack below warnings helps nobody who runs a store.
    let filter = EnvFilter::new(format!("{},h2=warn,hyper=warn,tower=warn", config.level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false);
    let installed = match (&config.output, config.json) {
        (LogOutput::Stderr, true) => builder
            .event_format(JsonLines)
            .with_writer(io::stderr)
            .try_init(),
        (LogOutput::Stderr, false) => builder
            .with_target(false)
            .with_writer(io::stderr)
            .try_init(),
        (LogOutput::Stdout, true) => builder.event_format(JsonLines).try_init(),
        (LogOutput::Stdout, false) => builder.with_target(false).try_init(),
        (LogOutput::File(path), json) => {
            let file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)?;
            let builder = builder.with_writer(Mutex::new(file));
            if json {
                builder.event_format(JsonLines).try_init()
            } else {
                builder.with_target(false).try_init()
            }
        }
    };
    installed.map_err(io::Error::other)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// One JSON object a line.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = serde_json::Map::new();
        fields.insert("level".into(), level(*metadata.level()).into());
        fields.insert("ts".into(), time.into());
        let line = metadata.line().unwrap_or_default();
        let file = metadata.file().unwrap_or_default();
        let short = file.rsplit_once("src/").map_or(file, |(_, short)| short);
        fields.insert("caller".into(), format!("{short}:{line}").into());
        event.record(&mut Fields(&mut fields));
        writeln!(writer, "{}", serde_json::Value::Object(fields))
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

struct Fields<'a>(&'a mut serde_json::Map<String, serde_json::Value>);

impl Fields<'_> {
    fn insert(&mut self, field: &Field, value: serde_json::Value) {
        let name = if field.name() == "message" {
            "msg"
        } else {
            field.name()
        };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value.into());
    }
}
