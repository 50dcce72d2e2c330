//! `POST /api/v1/open`: a file dropped on the page, or sent by `serin open`.
//!
//! The file is written aside as it comes, then imported by the server; the answer tells how far it
//! is, a JSON object a line. The name given is shown and never used as a path.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;
use tokio_stream::wrappers::ReceiverStream;

use super::dto::OpenBody;
use super::error::ApiError;
use super::{App, OpenProgress, Upload};

/// Longest file taken this way; longer ones are imported with `serin import`.
const FILE_BYTES_MAX: u64 = 4 << 30;
/// How long nothing may come before the upload is given up.
const IDLE_DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    name: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    time: Option<String>,
    service: Option<String>,
    #[serde(default)]
    again: bool,
    #[serde(default)]
    no_header: bool,
}

pub(crate) async fn post(
    State(app): State<App>,
    Query(asked): Query<Asked>,
    body: Body,
) -> Result<Response, ApiError> {
    let file = app.found(receive(&app, body)).await??;
    let progress = app.operate.open(Upload {
        name: asked.name,
        kind: asked.kind,
        time: asked.time,
        service: asked.service,
        again: asked.again,
        no_header: asked.no_header,
        file,
    });
    let lines = ReceiverStream::new(progress).map(line);
    Ok(app.told(lines))
}

async fn receive(app: &App, body: Body) -> Result<tempfile::TempPath, ApiError> {
    let failed = |error: std::io::Error| {
        ApiError::internal(format!(
            "cannot keep the file in {}: {error}; make room there or mend what is wrong, and open \
             the file again",
            app.upload_dir.display()
        ))
    };
    let (file, path) = tempfile::NamedTempFile::new_in(&app.upload_dir)
        .map_err(failed)?
        .into_parts();
    let mut file = tokio::fs::File::from_std(file);
    let mut stream = body.into_data_stream();
    let mut bytes = 0;
    loop {
        let piece = tokio::time::timeout(IDLE_DEADLINE, stream.next())
            .await
            .map_err(|_| ApiError::bad("the file stopped coming for 30 s"))?;
        let Some(piece) = piece else {
            break;
        };
        let piece = piece
            .map_err(|error| ApiError::bad(format!("the file did not come whole: {error}")))?;
        bytes += piece.len() as u64;
        if bytes > FILE_BYTES_MAX {
            return Err(ApiError::too_large(format!(
                "the file is longer than {} GiB; use `serin import`",
                FILE_BYTES_MAX >> 30
            )));
        }
        file.write_all(&piece).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    Ok(path)
}

fn line(progress: OpenProgress) -> serde_json::Result<Bytes> {
    let body = match progress {
        OpenProgress::At {
            stage,
            done,
            total,
            waits,
        } => OpenBody::At {
            stage: stage.as_str(),
            done,
            total,
            waits,
        },
        OpenProgress::Done {
            dashboard,
            from,
            to,
            events,
            refused,
            said,
        } => OpenBody::Done {
            dashboard,
            from,
            to,
            events,
            refused,
            said,
        },
        OpenProgress::Failed(error) => OpenBody::Failed { error },
    };
    let mut text = serde_json::to_vec(&body)?;
    text.push(b'\n');
    Ok(Bytes::from(text))
}
