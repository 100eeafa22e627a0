//! A real Prometheus for as long as a check lasts, and the questions that are asked of it.
//!
//! It runs wherever `enter` puts a program: on this machine, or in the network of a bench. What
//! counts as an answer is a number: a series whose value is not one is a panel that stays blank.
//! Must not know: what it scrapes.

use super::tools::Tools;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Prometheus computes rates from several scrapes; at one a second this is enough.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two rounds of questions: several scrapes.
const PACE: Duration = Duration::from_secs(2);

/// How a program is started where Prometheus runs.
pub type Enter<'a> = &'a dyn Fn(&Path) -> Command;

/// One question: where it stands, and its PromQL.
#[derive(Clone, Debug)]
pub struct Question {
    /// The dashboard and panel, or the alert.
    pub place: String,
    /// What is asked, without variables.
    pub expression: String,
}

/// A Prometheus that ends, with its folder, with this value.
pub struct Prometheus<'a> {
    child: Child,
    dir: PathBuf,
    promtool: PathBuf,
    enter: Enter<'a>,
    url: String,
}

impl<'a> Prometheus<'a> {
    /// Starts one that scrapes what `scrape_configs` (YAML, at the top level) says, once a second,
    /// and evaluates the alerts of this repository.
    pub fn start(
        tools: &Tools,
        enter: Enter<'a>,
        dir: &Path,
        port: u16,
        scrape_configs: &str,
    ) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let rules = crate::shell::root().join("deploy/alerts");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}/*.yaml']\nscrape_configs:\n{scrape_configs}",
            rules.display()
        );
        let file = dir.join("prometheus.yaml");
        std::fs::write(&file, config)?;
        let log = std::fs::File::create(dir.join("prometheus.log"))?;
        let child = enter(&tools.prometheus)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.join("tsdb").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start prometheus")?;
        Ok(Self {
            child,
            dir: dir.to_path_buf(),
            promtool: tools.promtool.clone(),
            enter,
            url: format!("http://127.0.0.1:{port}"),
        })
    }

    /// Asks everything again and again, with `load` before each round, until all has been answered
    /// once or patience ends; what was never answered.
    pub fn ask_all(
        &mut self,
        questions: &[Question],
        mut load: impl FnMut() -> Result<()>,
    ) -> Result<Vec<Question>> {
        let mut open = questions.to_vec();
        #[expect(clippy::disallowed_methods, reason = "a deadline for real processes")]
        let start = Instant::now();
        while !open.is_empty() && start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                let log = std::fs::read_to_string(self.dir.join("prometheus.log"));
                bail!(
                    "prometheus ended with {status}:\n{}",
                    log.unwrap_or_default()
                );
            }
            load()?;
            std::thread::sleep(PACE); // poll interval
            open.retain(|question| !self.answers(&question.expression));
        }
        Ok(open)
    }

    /// Whether a query returns a number. One that cannot be asked yet returns none.
    fn answers(&self, expression: &str) -> bool {
        let output = (self.enter)(&self.promtool)
            .args(["query", "instant", &self.url, expression])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        output.is_ok_and(|output| {
            output.status.success() && has_number(&String::from_utf8_lossy(&output.stdout))
        })
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        // Nothing can be done about a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Whether one of the lines that promtool prints, `SERIES => VALUE @[TIME]`, has a number.
fn has_number(answer: &str) -> bool {
    let values = answer.lines().filter_map(|line| {
        let (_, value) = line.rsplit_once("=> ")?;
        value.split(' ').next()
    });
    let mut numbers = values.filter_map(|value| value.parse::<f64>().ok());
    numbers.any(|number| !number.is_nan())
}

/// Says what was not answered, and fails if that is anything.
pub fn report(what: &str, asked: usize, open: &[Question]) -> Result<()> {
    for question in open {
        eprintln!("no data: {}: {}", question.place, question.expression);
    }
    println!(
        "chart: {} of {asked} queries return data ({what})",
        asked - open.len()
    );
    if !open.is_empty() {
        bail!("{} queries return no data", open.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::has_number;

    #[test]
    fn an_answer_is_a_number() {
        assert!(!has_number(""));
        assert!(!has_number("{pod=\"a => b\"} => NaN @[1.5]\n"));
        assert!(has_number("{} => NaN @[1.5]\nup{job=\"x\"} => 0 @[1.5]\n"));
        assert!(has_number("{} => +Inf @[1.5]"));
        assert!(!has_number("no answer"));
    }
}
