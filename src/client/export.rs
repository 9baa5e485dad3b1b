//! Every line of a range, and the lines around one.

use std::io;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use query_wire::loki::{Entry, ExportedLine, LineContext, Response};

use super::http::{Refused, Server};
use super::notes;

/// Times in a row that an answer may break off without a line before the export is given up.
const FAILURES_MAX: u32 = 5;

/// How long to wait before an answer is taken up again.
const PAUSE: Duration = Duration::from_secs(1);

/// Calls `each` with every line, and takes an answer that breaks off up behind the last line that came.
///
/// # Errors
/// A query that is refused, an answer of another form, and a server that breaks off again and again.
pub(crate) async fn export(
    server: &Server,
    form: Vec<(&str, String)>,
    silence: Duration,
    each: &mut dyn FnMut(ExportedLine) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut cursor: Option<String> = None;
    let mut failures = 0;
    loop {
        let mut form = form.clone();
        form.push(("format", "jsonl".to_owned()));
        form.extend(cursor.clone().map(|cursor| ("cursor", cursor)));
        let before = cursor.clone();
        let error = match read(server, &form, silence, &mut cursor, each).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is::<Refused>() || error.is::<io::Error>() => return Err(error),
            Err(error) => error,
        };
        failures = if before == cursor { failures + 1 } else { 1 };
        if failures >= FAILURES_MAX {
            return Err(error.context("the export broke off again and again"));
        }
        notes("warning", &[format!("the export broke off, it is taken up again: {error:#}")]);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn read(
    server: &Server,
    form: &[(&str, String)],
    silence: Duration,
    cursor: &mut Option<String>,
    each: &mut dyn FnMut(ExportedLine) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut response = server.stream(&["api", "v1", "logs", "export"], form).await?;
    let warnings = response.headers().get_all("warning").iter().filter_map(|value| value.to_str().ok());
    notes("warning", &warnings.map(str::to_owned).collect::<Vec<_>>());
    let mut rest: Vec<u8> = Vec::new();
    loop {
        let chunk = tokio::time::timeout(silence, response.chunk()).await;
        let chunk = chunk.map_err(|_| anyhow!("the server was silent for {silence:?}"))?;
        let Some(chunk) = chunk.map_err(reqwest::Error::without_url).context("reading lines failed")? else { break };
        rest.extend_from_slice(&chunk);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
        let later = rest.split_off(end + 1);
        for line in rest.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let line: ExportedLine = serde_json::from_slice(line)
                .with_context(|| format!("{} sent a line of another form", server.origin()))?;
            let place = line.cursor.clone();
            each(line)?;
            *cursor = Some(place);
        }
        rest = later;
    }
    if !rest.is_empty() {
        bail!("the last line is cut off");
    }
    Ok(())
}

/// Returns an exported line as an entry; its time is that of its cursor.
pub(crate) fn entry_of(line: &ExportedLine) -> Entry {
    let at = line.cursor.split_once('.').and_then(|(at, _)| at.parse().ok());
    Entry { timestamp_ns: at.unwrap_or_default(), line: line.line.clone(), labels: None }
}

/// How many lines around a line are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Around {
    pub(crate) before: u32,
    pub(crate) after: u32,
}

impl Around {
    /// Asks for the lines around a line that `query` found.
    pub(crate) async fn ask(self, server: &Server, query: &str, hit: &Entry) -> anyhow::Result<LineContext> {
        let form = [
            ("query", query.to_owned()),
            ("time", hit.timestamp_ns.to_string()),
            ("line", hit.line.clone()),
            ("before", self.before.to_string()),
            ("after", self.after.to_string()),
        ];
        let response: Response<LineContext> = server.post(&["api", "v1", "logs", "context"], &form).await?;
        Ok(response.data)
    }
}
