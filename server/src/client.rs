//! The commands' way to a running server: finds it, speaks HTTP with it, says what went wrong.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::cli::Global;
use crate::run_file::RunFile;

/// What is read takes no longer than a query may (`query.deadline_s`); a server that is held up says
/// nothing at all.
const READ_WITHIN: Duration = Duration::from_secs(120);

/// A running server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
    /// The folder it was found in.
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
    code: Option<String>,
}

impl Client {
    /// The server named by `--server`, else the one of this folder or the nearest above.
    pub(crate) fn find(global: &Global) -> Result<Client> {
        let found = RunFile::find(Path::new("."))?;
        let (base, token, dir) = match (&global.server, found) {
            (Some(server), found) => {
                let token = match (&global.token, found) {
                    (Some(token), _) => token.clone(),
                    (None, Some((_, run))) if run.http == server.trim_end_matches('/') => run.token,
                    (None, _) => bail!(
                        "the server {server} wants a token; give it with --token or SERIN_TOKEN (where the server runs, `serin token new NAME` makes one, and that of its start is in .serin/run.json)"
                    ),
                };
                (server.clone(), token, None)
            }
            (None, Some((dir, run))) => {
                let token = global.token.clone().unwrap_or(run.token);
                (run.http, token, Some(dir))
            }
            (None, None) => bail!(
                "no server runs in this folder; start one with `serin up`, or name one with --server URL"
            ),
        };
        Client::new(base, token, dir)
    }

    /// The server of a run file.
    pub(crate) fn of(run: &RunFile, global: &Global, dir: &Path) -> Result<Client> {
        let token = global.token.clone().unwrap_or_else(|| run.token.clone());
        Client::new(run.http.clone(), token, Some(dir.to_path_buf()))
    }

    fn new(base: String, token: String, dir: Option<PathBuf>) -> Result<Client> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            // The server is on this machine or named by its address: never through a proxy.
            .no_proxy()
            .build()
            .context("cannot set up HTTP")?;
        Ok(Client {
            http,
            base: base.trim_end_matches('/').to_owned(),
            token,
            dir,
        })
    }

    /// Where the server is.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// A new link that signs one browser in, once, within ten minutes, and shows `next`; `None` where
    /// our token is a stored one, which signs nobody in.
    pub(crate) async fn sign_in_link(&self, next: &str) -> Result<Option<String>> {
        #[derive(Deserialize)]
        struct Made {
            code: String,
        }
        let request = self.request(Method::POST, "/api/v1/signin");
        let answer = self.send_any(request).await?;
        if answer.status() == StatusCode::FORBIDDEN {
            return Ok(None);
        }
        let Made { code } = self.read(answer).await?;
        let link = sign_in_link(&self.base, &code);
        Ok(Some(format!("{link}&next={}", percent_encoded(next))))
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.token)
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T> {
        let request = self.request(Method::GET, path).timeout(READ_WITHIN);
        self.json(request.query(query)).await
    }

    pub(crate) async fn post(&self, path: &str) -> Result<()> {
        self.send(self.request(Method::POST, path)).await?;
        Ok(())
    }

    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T> {
        self.read(self.send_any(request).await?).await
    }

    async fn read<T: DeserializeOwned>(&self, answer: Response) -> Result<T> {
        let answer = succeeded(answer).await?;
        answer
            .json()
            .await
            .with_context(|| format!("cannot understand the answer of {}", self.base))
    }

    /// Sends a request; an answer that is not a success becomes an error with the server's words.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response> {
        succeeded(self.send_any(request).await?).await
    }

    /// Sends a request; any answer will do.
    pub(crate) async fn send_any(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.with_context(|| {
            format!(
                "no answer from {}; if it is just being started, try again in a moment, else start it with `serin up`",
                self.base
            )
        })
    }
}

/// The link of a code.
pub(crate) fn sign_in_link(base: &str, code: &str) -> String {
    format!("{base}/signin?code={code}")
}

async fn succeeded(answer: Response) -> Result<Response> {
    match answer.status().is_success() {
        true => Ok(answer),
        false => Err(error_of(answer).await),
    }
}

/// What the server says of a refused request.
pub(crate) async fn error_of(answer: Response) -> anyhow::Error {
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    match serde_json::from_str::<ErrorBody>(&text) {
        Ok(ErrorBody {
            error,
            code: Some(code),
        }) if status != StatusCode::UNAUTHORIZED => anyhow!("{error} [{code}]"),
        Ok(body) => anyhow!("{}", body.error),
        Err(_) => anyhow!("the server answered {status}"),
    }
}

/// A text as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    percent_encoded(text).replace('/', "%2F")
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}
