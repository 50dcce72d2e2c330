//! A script as a service on the bus: each request on a thread for work that blocks.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use serin_sdk::{Failure, Serin, WebRequest, WebResponse};
use thiserror::Error;
use tokio::task::spawn_blocking;

use crate::answer::{Answer, Asked};
use crate::script::{Script, ScriptError};

/// Why a script is not served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The script.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] serin_sdk::ServeError),
}

/// Serves the script of a folder until the process is asked to end.
pub async fn serve(folder: &Path, serin: Serin) -> Result<(), ServeError> {
    let script = Arc::new(Script::load(folder, Some(serin.clone()))?);
    let mut service = serin.service();
    for endpoint in script.endpoints() {
        let (script, name) = (Arc::clone(&script), endpoint.clone());
        service = service.endpoint(endpoint.as_str(), move |call, data: Value| {
            let (script, name) = (Arc::clone(&script), name.clone());
            let context = call.context().clone();
            async move {
                let running = spawn_blocking(move || context.run(|| script.call(&name, &data)));
                running.await?.map_err(|error| told(&error))
            }
        });
    }
    if script.has_web() {
        service = service.web(move |call, request| {
            let script = Arc::clone(&script);
            let (asked, context) = (asked(request), call.context().clone());
            async move {
                let running = spawn_blocking(move || context.run(|| script.web(&asked)));
                running.await?.map(response).map_err(|error| told(&error))
            }
        });
    }
    Ok(service.run().await?)
}

/// Said in the log in full; whoever called learns only that it failed.
fn told(error: &ScriptError) -> Failure {
    tracing::error!("{error}");
    Failure::new(500, "the handler failed; its log says why")
}

fn asked(request: WebRequest) -> Asked {
    Asked {
        method: request.method,
        path: request.path,
        query: request.query,
        headers: request.headers,
        body: String::from_utf8_lossy(&request.body).into_owned(),
    }
}

fn response(answer: Answer) -> WebResponse {
    let response = WebResponse::new(answer.status).body(answer.body);
    let headers = answer.headers.iter();
    headers.fold(response, |response, (name, value)| {
        response.header(name, value)
    })
}
