//! Log lines: one JSON object a line as etcd prints them (`level`, `ts`, `caller`, `msg`, fields),
//! or plain text for people.
//!
//! Installs a process-wide subscriber once, whose level may change; must not know what is logged.

use crate::flags::{LogConfig, LogOutput};
use std::fmt;
use std::io;
use std::sync::{Mutex, OnceLock};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The filter of this process, once there is one.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Installs the subscriber of this process.
///
/// # Errors
/// The log file cannot be opened, or a subscriber is installed already.
pub fn init(config: &LogConfig) -> io::Result<()> {
    let (filter, handle) = reload::Layer::new(filter(config.level));
    let writer = match &config.output {
        LogOutput::Stderr => BoxMakeWriter::new(io::stderr),
        LogOutput::Stdout => BoxMakeWriter::new(io::stdout),
        LogOutput::File(path) => {
            let mut options = std::fs::OpenOptions::new();
            let file = options.create(true).append(true).open(path)?;
            BoxMakeWriter::new(Mutex::new(file))
        }
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(writer);
    let lines = if config.json {
        lines.event_format(JsonLines).boxed()
    } else {
        lines.with_target(false).boxed()
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    subscriber.try_init().map_err(io::Error::other)?;
    // Nobody else sets it: a second subscriber was refused above.
    let _ = FILTER.set(handle);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    Ok(())
}

/// From now on lines of this level and above are logged. Without [`init`], which an embedding
/// program may have left out, the log is not ours and nothing happens.
pub fn set_level(level: &str) {
    if let Some(handle) = FILTER.get() {
        // Fails only when the subscriber is gone, and with it the log.
        let _ = handle.reload(filter(level));
    }
}

fn filter(level: &str) -> EnvFilter {
    // Chatter of the HTTP stack below warnings helps nobody who runs a store.
    EnvFilter::new(format!("{level},h2=warn,hyper=warn,tower=warn"))
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
