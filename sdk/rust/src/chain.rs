//! Enhancement chains: a message passes up to four stages, and in each several services add to it.
//!
//! We ask a stage's enhancers in parallel, wait until all answered or the stage is over, and merge
//! what arrived in the order in which the stage names them, so that whoever is quicker changes
//! nothing. An optional enhancer may be absent, late or failed; a required one fails the chain. The
//! bounds are the wire's. Start at [`Serin::chain`].

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use serde::Serialize;
use serde_json::{Map, Value};
use serin_wire::chain::{DATA_BYTES_MAX, DEPTH_MAX, ENHANCERS_MAX, STAGES_MAX};
use serin_wire::{Hop, HopStatus, Packet, call};
use thiserror::Error;
use tokio::time::Instant;

use crate::call::error::CallError;
use crate::call::{Reply, TIMEOUT};
use crate::context::Context;
use crate::serin::Serin;
use crate::span::{micros, status_of};

/// How long a stage may take unless it says otherwise.
const WITHIN: Duration = Duration::from_secs(1);

/// A chain before it runs.
#[must_use = "a chain runs when `run` is awaited"]
#[derive(Debug)]
pub struct Chain {
    serin: Serin,
    name: String,
    stages: Vec<Stage>,
    key: Option<String>,
    timeout: Duration,
}

/// One stage: who enhances, and for how long they may.
#[derive(Debug, Clone)]
pub struct Stage {
    enhancers: Vec<Enhancer>,
    within: Duration,
}

#[derive(Debug, Clone)]
struct Enhancer {
    /// `<service>.<endpoint>`.
    name: String,
    is_required: bool,
}

/// What came out of a chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Enhanced {
    /// What went in, and all that was added.
    pub data: Map<String, Value>,
    /// How each enhancer did, in the order of the stages and their enhancers.
    pub hops: Vec<Hop>,
}

/// Why a chain did not come to its end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChainError {
    /// Too many stages, or none.
    #[error("chain {chain:?} has {stages} stages, must have 1 to {STAGES_MAX}")]
    Stages {
        /// The chain.
        chain: String,
        /// How many.
        stages: usize,
    },
    /// Too many enhancers in a stage, or none.
    #[error(
        "stage {stage} of chain {chain:?} has {enhancers} enhancers, must have 1 to {ENHANCERS_MAX}"
    )]
    Enhancers {
        /// The chain.
        chain: String,
        /// The stage, from 1.
        stage: usize,
        /// How many.
        enhancers: usize,
    },
    /// An enhancer is not named `<service>.<endpoint>`.
    #[error(
        "chain {chain:?}: enhancer {enhancer:?} must be <service>.<endpoint>, such as price.quote"
    )]
    Name {
        /// The chain.
        chain: String,
        /// As given.
        enhancer: String,
    },
    /// The data is not a JSON object.
    #[error("what enters chain {chain:?} must be a JSON object")]
    NotAnObject {
        /// The chain.
        chain: String,
    },
    /// The data is too large to begin with.
    #[error("what enters chain {chain:?} has {bytes} bytes as JSON, the most is {DATA_BYTES_MAX}")]
    TooLarge {
        /// The chain.
        chain: String,
        /// How many.
        bytes: usize,
    },
    /// Chains enclose each other too deeply.
    #[error(
        "chain {chain:?} is enclosed by {depth} others, the most allowed; does it enhance itself?"
    )]
    TooDeep {
        /// The chain.
        chain: String,
        /// Chains around it.
        depth: u32,
    },
    /// An enhancer without which there is no result did not do its part.
    #[error("chain {chain:?} needs {enhancer} in stage {stage}: {reason}")]
    Required {
        /// The chain.
        chain: String,
        /// The stage, from 1.
        stage: usize,
        /// Who.
        enhancer: String,
        /// Why, in its words or ours.
        reason: String,
        /// The code of this error: the enhancer's own where it answered with one.
        code: u16,
        /// How all went up to here.
        hops: Vec<Hop>,
    },
}

impl ChainError {
    /// A code as HTTP has them; that of the enhancer that failed where one did.
    pub fn code(&self) -> u16 {
        match self {
            ChainError::Stages { .. }
            | ChainError::Enhancers { .. }
            | ChainError::TooLarge { .. }
            | ChainError::TooDeep { .. } => call::CODE_TOO_LARGE,
            ChainError::Name { .. } | ChainError::NotAnObject { .. } => call::CODE_BAD_REQUEST,
            ChainError::Required { code, .. } => *code,
        }
    }
}

impl Serin {
    /// A chain of this name; add stages, then run it.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use serin_sdk::{Serin, Stage};
    /// # async fn page(serin: Serin) -> Result<(), serin_sdk::ChainError> {
    /// let product = serin
    ///     .chain("product-page")
    ///     .stage(Stage::new().enhance("catalogue.item"))
    ///     .stage(
    ///         Stage::new()
    ///             .enhance("price.quote")
    ///             .optional("reco.suggest")
    ///             .within(Duration::from_millis(80)),
    ///     )
    ///     .run(&serde_json::json!({"sku": "finch-7"}))
    ///     .await?;
    /// # let _ = (product.data, product.hops);
    /// # Ok(())
    /// # }
    /// ```
    pub fn chain(&self, name: impl Into<String>) -> Chain {
        Chain {
            serin: self.clone(),
            name: name.into(),
            stages: Vec::new(),
            key: None,
            timeout: TIMEOUT,
        }
    }
}

impl Default for Stage {
    fn default() -> Stage {
        Stage::new()
    }
}

impl Stage {
    /// A stage without enhancers, of one second.
    pub fn new() -> Stage {
        Stage {
            enhancers: Vec::new(),
            within: WITHIN,
        }
    }

    /// Asks `<service>.<endpoint>`; without its answer the chain fails.
    pub fn enhance(self, enhancer: impl Into<String>) -> Stage {
        self.add(enhancer.into(), true)
    }

    /// Asks `<service>.<endpoint>`; without its answer the chain goes on.
    pub fn optional(self, enhancer: impl Into<String>) -> Stage {
        self.add(enhancer.into(), false)
    }

    /// How long the stage may take; what has arrived by then counts.
    pub fn within(mut self, within: Duration) -> Stage {
        self.within = within;
        self
    }

    fn add(mut self, name: String, is_required: bool) -> Stage {
        self.enhancers.push(Enhancer { name, is_required });
        self
    }
}

impl Chain {
    /// Adds the next stage.
    pub fn stage(mut self, stage: Stage) -> Chain {
        self.stages.push(stage);
        self
    }

    /// Calls with the same key go to the same versions, see [`crate::Call::key`].
    pub fn key(mut self, key: impl Into<String>) -> Chain {
        self.key = Some(key.into());
        self
    }

    /// How long the chain may take in all; 5 s unless said otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Chain {
        self.timeout = timeout;
        self
    }

    /// Runs the chain over data that become a JSON object.
    pub async fn run(self, data: &(impl Serialize + ?Sized)) -> Result<Enhanced, ChainError> {
        let cause = self.serin.cause();
        let (packet, bytes) = self.begin(data, &cause)?;
        let span = self.serin.shared().spans.begin(cause.trace);
        let deadline = span.started + self.timeout;
        let context = Context {
            trace: Some(span.trace),
            deadline: Some(cause.deadline.map_or(deadline, |waits| waits.min(deadline))),
            chain_depth: cause.chain_depth + 1,
            ..cause
        };
        let serin = self.serin.with_context(context);
        let result = self.run_stages(&serin, packet, bytes).await;
        let attributes = || {
            let mut attributes = Map::new();
            attributes.insert("kind".into(), "chain".into());
            attributes.insert("stages".into(), self.stages.len().into());
            if let Err(error) = &result {
                attributes.insert("error".into(), error.to_string().into());
            }
            attributes
        };
        let status = status_of(&result);
        let shared = self.serin.shared();
        shared.end_span(span, &self.name, status, attributes);
        result
    }

    /// Checks all bounds; the packet, and the bytes of its data.
    fn begin(
        &self,
        data: &(impl Serialize + ?Sized),
        cause: &Context,
    ) -> Result<(Packet, usize), ChainError> {
        let chain = || self.name.clone();
        if !(1..=STAGES_MAX).contains(&self.stages.len()) {
            let stages = self.stages.len();
            return Err(ChainError::Stages {
                chain: chain(),
                stages,
            });
        }
        for (at, stage) in self.stages.iter().enumerate() {
            let enhancers = stage.enhancers.len();
            if !(1..=ENHANCERS_MAX).contains(&enhancers) {
                let stage = at + 1;
                return Err(ChainError::Enhancers {
                    chain: chain(),
                    stage,
                    enhancers,
                });
            }
            let unnamed = stage
                .enhancers
                .iter()
                .find(|one| split(&one.name).is_none());
            if let Some(unnamed) = unnamed {
                let enhancer = unnamed.name.clone();
                return Err(ChainError::Name {
                    chain: chain(),
                    enhancer,
                });
            }
        }
        if cause.chain_depth >= DEPTH_MAX {
            let depth = cause.chain_depth;
            return Err(ChainError::TooDeep {
                chain: chain(),
                depth,
            });
        }
        let Ok(Value::Object(data)) = serde_json::to_value(data) else {
            return Err(ChainError::NotAnObject { chain: chain() });
        };
        let bytes = bytes_of(&data);
        if bytes > DATA_BYTES_MAX {
            return Err(ChainError::TooLarge {
                chain: chain(),
                bytes,
            });
        }
        let packet = Packet {
            chain: chain(),
            stage: 0,
            data,
        };
        Ok((packet, bytes))
    }

    async fn run_stages(
        &self,
        serin: &Serin,
        mut packet: Packet,
        mut bytes: usize,
    ) -> Result<Enhanced, ChainError> {
        let mut hops: Vec<Hop> = Vec::new();
        for (at, stage) in self.stages.iter().enumerate() {
            packet.stage = at + 1;
            // Written once, sent to all.
            let body = Bytes::from(serde_json::to_vec(&packet).expect("JSON values are JSON"));
            let asked = stage.enhancers.iter();
            let asked = asked.map(|enhancer| self.ask(serin, stage, at + 1, enhancer, &body));
            let answers = join_all(asked).await;
            let first = hops.len();
            for (enhancer, (took_us, answer)) in stage.enhancers.iter().zip(answers) {
                let mut hop = Hop {
                    stage: packet.stage,
                    enhancer: enhancer.name.clone(),
                    status: HopStatus::Ok,
                    total_us: took_us,
                    queue_us: 0,
                    handler_us: 0,
                    network_us: took_us,
                    added: Vec::new(),
                    conflicts: Vec::new(),
                    error: None,
                    code: None,
                };
                match answer {
                    Ok(reply) => take(&mut packet, &mut bytes, &mut hop, &reply),
                    Err(error) => {
                        // Its own clock may be the first to say so.
                        let is_late = error.code() == call::CODE_TIMEOUT;
                        hop.status = match error {
                            CallError::Absent { .. } => HopStatus::Absent,
                            _ if is_late => HopStatus::Late,
                            _ => HopStatus::Failed,
                        };
                        hop.code = Some(error.code());
                        hop.error = Some(error.to_string());
                    }
                }
                hops.push(hop);
            }
            let told = hops[first..].iter().zip(&stage.enhancers);
            let mut missing =
                told.filter(|(hop, enhancer)| enhancer.is_required && hop.status != HopStatus::Ok);
            if let Some((hop, enhancer)) = missing.next() {
                return Err(ChainError::Required {
                    chain: self.name.clone(),
                    stage: packet.stage,
                    enhancer: enhancer.name.clone(),
                    reason: hop.error.clone().unwrap_or_default(),
                    code: hop.code.unwrap_or(call::CODE_FAILED),
                    hops,
                });
            }
        }
        Ok(Enhanced {
            data: packet.data,
            hops,
        })
    }

    /// Asks one enhancer; how long it took, and what it answered.
    async fn ask(
        &self,
        serin: &Serin,
        stage: &Stage,
        number: usize,
        enhancer: &Enhancer,
        packet: &Bytes,
    ) -> (u64, Result<Reply, CallError>) {
        let began = Instant::now();
        let (service, endpoint) = split(&enhancer.name).unwrap_or_default();
        let call = serin.call_json(service, endpoint, packet.clone());
        let mut call = call.timeout(stage.within).hop(&self.name, number);
        if let Some(key) = &self.key {
            call = call.key(key.as_str());
        }
        let answer = call.reply().await;
        (micros(began.elapsed()), answer)
    }
}

/// Merges an answer, unless it is no object or makes the packet too large.
fn take(packet: &mut Packet, bytes: &mut usize, hop: &mut Hop, reply: &Reply) {
    let timing = reply.timing;
    (hop.total_us, hop.network_us) = (timing.total_us, timing.network_us);
    (hop.queue_us, hop.handler_us) = (timing.queue_us, timing.handler_us);
    let mut fail = |code: u16, error: String| {
        hop.status = HopStatus::Failed;
        hop.code = Some(code);
        hop.error = Some(error);
    };
    let additions: Map<String, Value> = match serde_json::from_slice(&reply.body) {
        Ok(additions) => additions,
        Err(error) => {
            return fail(
                call::CODE_FAILED,
                format!("it did not answer a JSON object of additions: {error}"),
            );
        }
    };
    // Merging never makes more than the sum; only near the bound it is worth looking exactly.
    if *bytes + reply.body.len() > DATA_BYTES_MAX {
        let mut tried = packet.clone();
        tried.merge(additions.clone());
        let merged = bytes_of(&tried.data);
        if merged > DATA_BYTES_MAX {
            return fail(
                call::CODE_TOO_LARGE,
                format!(
                    "with its additions the data has {merged} bytes, the most is {DATA_BYTES_MAX}"
                ),
            );
        }
        *bytes = merged;
    } else {
        *bytes += reply.body.len();
    }
    let merged = packet.merge(additions);
    (hop.added, hop.conflicts) = (merged.added, merged.conflicts);
}

fn bytes_of(data: &Map<String, Value>) -> usize {
    serde_json::to_vec(data).map_or(usize::MAX, |json| json.len())
}

/// Service and endpoint of `<service>.<endpoint>`.
fn split(enhancer: &str) -> Option<(&str, &str)> {
    let (service, endpoint) = enhancer.split_once('.')?;
    let are_names = serin_wire::name::check_service(service).is_ok()
        && serin_wire::name::check_service(endpoint).is_ok();
    are_names.then_some((service, endpoint))
}
