//! `quorate probe`: wait until a health page says yes.
//!
//! The image has no shell and no curl; this is what a test pod or a health check of a container
//! runs. Must not know: what the page is about.

use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::args::Common;
use crate::failure::Failure;

/// How long a refusal is left alone before the page is asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// The most that is read of an answer: its first line decides, the rest is for people.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Options of `probe`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  quorate probe http://localhost:2379/readyz
  quorate probe http://quorate-operator-metrics:8080/readyz --timeout 30s

Asks again until the page answers 200 or --timeout has passed; then the exit code is 1.")]
pub struct ProbeArgs {
    /// The page, as http://host:port/path.
    #[arg(value_name = "URL", value_parser = Page::parse)]
    page: Page,
}

/// Where to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Page {
    address: String,
    path: String,
}

impl Page {
    fn parse(text: &str) -> Result<Page, String> {
        let rest = text
            .strip_prefix("http://")
            .ok_or("write it as http://host:port/path; pages of health are not encrypted")?;
        let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let port = address
            .rsplit_once(':')
            .map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(1..))) {
            return Err(format!("`{address}` names no port; write it as host:port"));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err("an address has no blanks in it".to_owned());
        }
        Ok(Page {
            address: address.to_owned(),
            path: if path.is_empty() { "/" } else { path }.to_owned(),
        })
    }

    /// Asks once; an answer other than 200 is an error in words.
    async fn ask(&self) -> Result<(), String> {
        let address = &self.address;
        let mut stream = TcpStream::connect(address)
            .await
            .map_err(|error| format!("{address} cannot be reached: {error}"))?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n",
            self.path
        );
        let failed = |error| format!("{address} broke off: {error}");
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        let mut answer = Vec::new();
        let mut bounded = stream.take(ANSWER_BYTES_MAX);
        bounded.read_to_end(&mut answer).await.map_err(failed)?;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.lines().next().unwrap_or_default();
        if status.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Err(format!("{address} answered `{status}` {}", body.trim()))
    }
}

/// Runs `probe`.
///
/// # Errors
/// [`Failure::Refused`] with the last answer when the page did not say yes in time.
pub async fn run(args: &ProbeArgs, common: &Common) -> Result<(), Failure> {
    let limit = common.client_timeout();
    let mut last = "no answer came".to_owned();
    let asking = async {
        while let Err(refusal) = args.page.ask().await {
            last = refusal;
            tokio::time::sleep(PAUSE).await;
        }
    };
    let answered = tokio::time::timeout(limit, asking).await.is_ok();
    if answered {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "not ready within {} s: {last}",
        limit.as_secs_f64()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_a_host_a_port_and_a_path() {
        let page = Page::parse("http://a.b:80/x?y").unwrap();
        assert_eq!(
            (page.address.as_str(), page.path.as_str()),
            ("a.b:80", "/x?y")
        );
        assert_eq!(Page::parse("http://[::1]:80").unwrap().path, "/");
        for wrong in [
            "a.b:80/x",
            "https://a.b:80/x",
            "http://a.b/x",
            "http://a.b:0/x",
            "http://a.b:80/x\r\nHost: c",
        ] {
            assert!(Page::parse(wrong).is_err(), "{wrong}");
        }
    }
}
