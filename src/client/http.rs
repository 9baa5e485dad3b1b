//! The connection to a server: where it is, what to send with each request, and what its errors say.

use std::time::Duration;

use anyhow::{Context, anyhow};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Url};
use serde::de::DeserializeOwned;

use super::time::parse_duration;

/// Longest wait for a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time of an answer that comes piece by piece; it is silence that ends one.
const STREAM_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

/// A request that will be refused again.
#[derive(Debug)]
pub(crate) struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Most characters of an error page that are shown.
const ERROR_CHARS_MAX: usize = 2_000;

/// Which server to ask.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServerArgs {
    /// Server to ask: Daybook, or whatever speaks the same API
    #[arg(long, env = "DAYBOOK_URL", value_name = "URL", default_value = "http://127.0.0.1:4319", value_parser = parse_url)]
    pub(crate) url: Url,
    /// Header to send with each request, e.g. 'X-Scope-OrgID: team'; may be given again
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Longest wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
}

pub(crate) fn parse_url(text: &str) -> Result<Url, String> {
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" if url.has_host() => Ok(url),
        "https" => Err("https is not built in; reach the server by http, or through a local proxy".to_owned()),
        scheme => Err(format!("expected http://host:port, not {scheme}:")),
    }
}

pub(crate) fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected 'Name: value'")?;
    let name = name.trim().parse().map_err(|_| format!("{name:?} is no header name"))?;
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| "the value has characters that a header cannot")?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// A client of one server.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    client: reqwest::Client,
    url: Url,
    headers: HeaderMap,
}

impl Server {
    /// Prepares a client; nothing is sent yet.
    pub(crate) fn new(args: &ServerArgs) -> anyhow::Result<Self> {
        let headers: HeaderMap = args.headers.iter().cloned().collect();
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(args.timeout)
            .default_headers(headers.clone())
            .build()
            .context("preparing the HTTP client failed")?;
        Ok(Self { client, url: args.url.clone(), headers })
    }

    /// Returns the URL of `path`, below the path of the server's own URL.
    pub(crate) fn endpoint(&self, path: &[&str]) -> anyhow::Result<Url> {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.path_segments_mut().map_err(|()| anyhow!("{} is no base of a path", self.url))?.pop_if_empty().extend(path);
        Ok(url)
    }

    /// Returns the headers that were asked for.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Asks with parameters in a form, which has no limit of length.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &[&str], form: &[(&str, String)]) -> anyhow::Result<T> {
        self.send(self.client.post(self.endpoint(path)?).form(form)).await
    }

    /// Asks with parameters in the URL.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<T> {
        self.send(self.client.get(self.endpoint(path)?).query(query)).await
    }

    /// Asks with parameters in a form for an answer of any length, to be read piece by piece.
    ///
    /// # Errors
    /// [`Refused`] when the request is at fault, other ones when the server may answer later.
    pub(crate) async fn stream(&self, path: &[&str], form: &[(&str, String)]) -> anyhow::Result<reqwest::Response> {
        let failed = || format!("asking {} failed", self.origin());
        let request = self.client.post(self.endpoint(path)?).form(form).timeout(STREAM_TIMEOUT);
        let response = request.send().await.map_err(reqwest::Error::without_url).with_context(failed)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.text().await.unwrap_or_default();
        let text = error_text(&body, &status.to_string());
        Err(if status.is_client_error() { Refused(text).into() } else { anyhow!(text) })
    }

    /// Posts bytes; returns status, headers and text of the answer, whatever they say.
    pub(crate) async fn post_bytes(
        &self,
        path: &[&str],
        headers: &[(&'static str, &str)],
        body: bytes::Bytes,
    ) -> anyhow::Result<(reqwest::StatusCode, HeaderMap, String)> {
        let failed = || format!("asking {} failed", self.origin());
        let mut request = self.client.post(self.endpoint(path)?).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.map_err(reqwest::Error::without_url).with_context(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.map_err(reqwest::Error::without_url).with_context(failed)?;
        Ok((status, headers, text.chars().take(ERROR_CHARS_MAX).collect()))
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let failed = || format!("asking {} failed", self.origin());
        let response = request.send().await.map_err(reqwest::Error::without_url).with_context(failed)?;
        let status = response.status();
        let body = response.bytes().await.map_err(reqwest::Error::without_url).with_context(failed)?;
        if !status.is_success() {
            return Err(anyhow!("{}", error_text(&String::from_utf8_lossy(&body), &status.to_string())));
        }
        serde_json::from_slice(&body).with_context(|| format!("{} sent an answer of another form", self.origin()))
    }

    /// Returns the server's URL without any password.
    pub(crate) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// Returns what the body of an error says: Prometheus' JSON or Loki's plain text, else the status.
pub(crate) fn error_text(body: &str, status: &str) -> String {
    let json: Option<query_wire::prometheus::Response<serde_json::Value>> = serde_json::from_str(body).ok();
    match json {
        Some(answer) if answer.error.is_some() => {
            let kind = answer.error_type.map(|kind| format!("{kind}: ")).unwrap_or_default();
            format!("{kind}{}", answer.error.unwrap_or_default())
        }
        _ if body.trim().is_empty() => format!("the server answered {status}"),
        _ => {
            let shown: String = body.trim().chars().take(ERROR_CHARS_MAX).collect();
            format!("{shown} ({status})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Server {
        Server::new(&ServerArgs { url: parse_url(url).unwrap(), headers: Vec::new(), timeout: CONNECT_TIMEOUT })
            .unwrap()
    }

    #[test]
    fn paths_go_below_the_url_and_are_escaped() {
        let check = |url: &str, path: &[&str], expected: &str| {
            assert_eq!(server(url).endpoint(path).unwrap().as_str(), expected);
        };
        check("127.0.0.1:4319", &["api", "v1", "query"], "http://127.0.0.1:4319/api/v1/query");
        check("http://h/prefix/", &["label", "a/b?c", "values"], "http://h/prefix/label/a%2Fb%3Fc/values");
        check("http://h/?x=1#y", &["a"], "http://h/a");
    }

    #[test]
    fn other_schemes_are_refused() {
        assert!(parse_url("https://h").unwrap_err().contains("https is not built in"));
        for bad in ["ftp://h", "http://", "", "http://h:99999", "unix:///x"] {
            assert!(parse_url(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn headers_need_a_name_and_a_value() {
        let (name, value) = parse_header("X-Scope-OrgID: a:b").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-scope-orgid", "a:b"));
        assert!(parse_header("nothing").is_err() && parse_header("a b: c").is_err() && parse_header("a: \n").is_ok());
        assert!(parse_header("a: b\nc").is_err());
    }

    #[test]
    fn errors_are_told_in_the_servers_words() {
        let json = r#"{"status":"error","errorType":"bad_data","error":"1:3: parse error"}"#;
        assert_eq!(error_text(json, "400 Bad Request"), "bad_data: 1:3: parse error");
        assert_eq!(error_text("parse error\n", "400 Bad Request"), "parse error (400 Bad Request)");
        assert_eq!(error_text("", "502 Bad Gateway"), "the server answered 502 Bad Gateway");
    }
}
