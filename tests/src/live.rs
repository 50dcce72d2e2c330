//! The live stream of a dashboard, as a browser follows it.

use anyhow::{Context, Result};
use reqwest::{Method, Response};
use serde_json::Value;

use crate::Serin;

/// Someone who looks at a dashboard; leaves when dropped.
#[derive(Debug)]
pub struct Screen {
    response: Response,
    text: String,
}

impl Screen {
    /// Looks at a dashboard.
    pub async fn open(serin: &Serin, dashboard: &str) -> Result<Screen> {
        let path = format!("/api/v1/dashboards/{dashboard}/live");
        let response = serin.request(Method::GET, &path).send().await?;
        Ok(Screen {
            response: response.error_for_status()?,
            text: String::new(),
        })
    }

    /// The panels of the next event that has any.
    pub async fn next(&mut self) -> Result<Value> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data:"));
                let panels = data.filter(|_| event.contains("event: panels"));
                let panels: Option<Value> = panels.map(serde_json::from_str).transpose()?;
                self.text = rest.to_owned();
                if let Some(mut panels) = panels {
                    return Ok(panels["panels"].take());
                }
            }
            let chunk = self.response.chunk().await?.context("the stream ended")?;
            self.text.push_str(&String::from_utf8_lossy(&chunk));
        }
    }
}
