//! From the file to a [`Service`]: defaults filled in, bounds held, contradictions told.
//!
//! Every problem is told at once, with what would be right. Start at [`resolve`].

use serin_wire::name;
use serin_yaml::{Place, Problem, Span, Spanned, code};

use super::command::split;
use super::order;
use super::raw::{
    RawCommand, RawLimits, RawPort, RawReady, RawScale, RawScrape, RawService, RawSize, RawSticky,
};
use super::{Instances, OWN_NAMES, Others, Port, Ready, Scrape, Service, Sticky};
use crate::confine::Limits;

/// A pair, so that one may die.
const INSTANCES: Instances = Instances { min: 2, max: 2 };
/// More instances of one service than this nobody runs on one machine.
const INSTANCES_MAX: u32 = 64;
/// A first build of a large package takes minutes; one that hangs takes for ever.
const BUILD_WITHIN_MS: u64 = 600_000;
const READY_WITHIN_MS: u64 = 30_000;
const STOP_WITHIN_MS: u64 = 10_000;
const HANG_AFTER_MS: u64 = 10_000;
const ANSWER_WITHIN_MS: u64 = 30_000;
/// Who waits longer has gone.
const ANSWER_WITHIN_MS_MAX: u64 = 3_600_000;
const BODY_BYTES_MAX: u64 = 1 << 20;
/// A body over the bus is one message, which our bus bounds at 8 MiB with all its headers.
const BODY_BYTES_MAX_BUS: u64 = 7 << 20;
/// One to a program's port passes through in pieces.
const BODY_BYTES_MAX_PORT: u64 = 16 << 30;
/// How often an endpoint is read, as Prometheus has it; more often is of no use to charts.
const SCRAPE_EVERY_MS: u64 = 15_000;
const SCRAPE_EVERY_MS_MIN: u64 = 1_000;
/// A process alone needs some.
const MEMORY_BYTES_MIN: u64 = 4 << 20;
/// Parts of a core that the kernel can count, and more cores than any machine has.
const CPU_MIN: f64 = 0.01;
const CPU_MAX: f64 = 1_024.0;
/// A line that a service's path must not pass: an operating system's environment is bounded.
pub(super) const ENV_BYTES_MAX: usize = 32 << 10;

/// What is taken where a version was stored before it could be said.
pub(super) fn answer_within_ms() -> u64 {
    ANSWER_WITHIN_MS
}

/// The same.
pub(super) fn body_bytes_max() -> u64 {
    BODY_BYTES_MAX
}

struct Resolver<'a> {
    file: &'a str,
    problems: Vec<Problem>,
}

/// How long the build may take of a service that was kept before it could say so.
pub(super) fn build_within_ms() -> u64 {
    BUILD_WITHIN_MS
}

/// `others` are the services beside it, where they are known.
pub(super) fn resolve(
    file: &str,
    folder: &str,
    raw: RawService,
    others: Option<&Others>,
) -> Result<Service, Vec<Problem>> {
    let mut to = Resolver {
        file,
        problems: Vec::new(),
    };
    let name = to.name(folder, raw.service.as_ref());
    let port = raw.port.as_ref().map(|port| match port.value {
        RawPort::Auto => Port::Auto,
        RawPort::Fixed(number) => Port::Fixed(number),
    });
    let service = Service {
        run: to.command("run", &raw.run),
        build: raw.build.as_ref().map(|build| to.command("build", build)),
        build_within_ms: millis(raw.build_within.as_ref(), BUILD_WITHIN_MS),
        env: to.env(&raw),
        web: raw.web.as_ref().map(|web| to.web(web)),
        ready: to.ready(raw.ready.as_ref(), port),
        ready_within_ms: millis(raw.ready_within.as_ref(), READY_WITHIN_MS),
        instances: to.instances(raw.instances.as_ref(), raw.scale.as_ref(), &raw, port),
        stop_within_ms: millis(raw.stop_within.as_ref(), STOP_WITHIN_MS),
        stop_signal: raw.stop_signal,
        hang_after_ms: millis(raw.hang_after.as_ref(), HANG_AFTER_MS),
        after: to.after(&name, &raw, others),
        idempotent: raw.idempotent.0.clone(),
        sticky: to.sticky(raw.sticky.as_ref()),
        answer_within_ms: to.answer_within(raw.answer_within.as_ref()),
        body_bytes_max: to.body_max(raw.body_max.as_ref(), port),
        runs_alone: raw.alone,
        is_job: raw.job,
        scrape: to.scrape(raw.scrape.as_ref(), port),
        limits: to.limits(raw.limits.as_ref()),
        port,
        name,
    };
    if let Some(web) = raw.web.as_ref().filter(|_| service.is_job) {
        let message = String::from("a job runs to its end and answers no requests");
        to.problem(Place::of(web), message, "leave `web:` or `job: true` out");
    }
    match to.problems.is_empty() {
        true => Ok(service),
        false => Err(to.problems),
    }
}

/// Whether it can stand in a request as it is.
fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic())
}

fn millis(span: Option<&Spanned<Span>>, default: u64) -> u64 {
    span.map_or(default, |span| {
        u64::try_from(span.value.0 / 1_000).unwrap_or(default)
    })
}

impl Resolver<'_> {
    fn problem(&mut self, place: Place, message: String, hint: &str) {
        let problem = Problem::new(self.file, place, code::VALUE, message);
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        self.problems.push(problem.hint(hint));
    }

    fn name(&mut self, folder: &str, written: Option<&Spanned<String>>) -> String {
        let place = written.map(Place::of).unwrap_or_default();
        let name = written.map_or(folder, |written| written.value.as_str());
        if let Err(error) = name::check_service(name) {
            self.problem(place, error.to_string(), "");
        } else if OWN_NAMES.contains(&name) {
            let message = format!("{name:?} is a part of Serin");
            self.problem(place, message, "give the service another name");
        } else if name != folder {
            let message = format!("the service is named {name:?}, its folder {folder:?}");
            self.problem(
                place,
                message,
                "name both the same, or leave `service:` out",
            );
        }
        name.to_owned()
    }

    fn command(&mut self, key: &str, written: &Spanned<RawCommand>) -> Vec<String> {
        let words = match &written.value {
            RawCommand::Words(words) => words.clone(),
            RawCommand::Line(line) => match split(line) {
                Ok(words) => words,
                Err(error) => {
                    self.problem(Place::of(written), format!("{key}: {error}"), "");
                    return Vec::new();
                }
            },
        };
        if words.first().is_none_or(String::is_empty) {
            self.problem(Place::of(written), format!("{key} names no program"), "");
        }
        words
    }

    fn env(&mut self, raw: &RawService) -> std::collections::BTreeMap<String, String> {
        let mut env = std::collections::BTreeMap::new();
        for (key, value) in &raw.env.0 {
            let is_name = !key.value.is_empty() && !key.value.contains(['=', '\0']);
            let place = Place::of(key);
            if !is_name || key.value.starts_with("SERIN_") {
                let message = format!("{:?} cannot be set here", key.value);
                self.problem(place, message, "names starting with SERIN_ are Serin's own");
            } else if value.0.len() > ENV_BYTES_MAX || value.0.contains('\0') {
                let message = format!("the value of {} is no text for an environment", key.value);
                self.problem(place, message, "at most 32 KiB, without a zero byte");
            }
            env.insert(key.value.clone(), value.0.clone());
        }
        env
    }

    fn web(&mut self, web: &Spanned<String>) -> String {
        let path = web.value.trim_end_matches('/');
        let is_path = path.is_empty()
            || (path.starts_with('/')
                && path[1..].split('/').all(|segment| {
                    !segment.is_empty()
                        && !matches!(segment, "." | "..")
                        && segment
                            .bytes()
                            .all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b))
                }));
        if !is_path || !web.value.starts_with('/') {
            let message = format!("{:?} is no path of the gateway", web.value);
            self.problem(
                Place::of(web),
                message,
                "write web: /cart, or web: / for all that is left",
            );
        }
        match path {
            "" => String::from("/"),
            path => path.to_owned(),
        }
    }

    fn ready(&mut self, ready: Option<&Spanned<RawReady>>, port: Option<Port>) -> Ready {
        let Some(ready) = ready else {
            return match port {
                Some(_) => Ready::Http(String::from("/")),
                None => Ready::Beat,
            };
        };
        let place = Place::of(ready);
        match &ready.value {
            RawReady::Beat => Ready::Beat,
            RawReady::Started => Ready::Started,
            RawReady::Run(command) => {
                let words = match command {
                    RawCommand::Words(words) => Ok(words.clone()),
                    RawCommand::Line(line) => split(line),
                };
                Ready::Run(words.unwrap_or_else(|error| {
                    self.problem(place, format!("ready: {error}"), "");
                    Vec::new()
                }))
            }
            RawReady::Tcp | RawReady::Http(_) if port.is_none() => {
                let message = String::from("the service has no port to ask");
                self.problem(place, message, "add port: auto, or write ready: started");
                Ready::Beat
            }
            RawReady::Tcp => Ready::Tcp,
            RawReady::Http(path) if !is_path(path) => {
                let message = format!("{path:?} is no path");
                self.problem(place, message, "write ready: {http: /healthz}");
                Ready::Beat
            }
            RawReady::Http(path) => Ready::Http(path.clone()),
        }
    }

    fn instances(
        &mut self,
        fixed: Option<&Spanned<u32>>,
        scale: Option<&RawScale>,
        raw: &RawService,
        port: Option<Port>,
    ) -> Instances {
        let is_single = raw.job || raw.alone || matches!(port, Some(Port::Fixed(_)));
        let (instances, place) = match (fixed, scale) {
            (Some(fixed), None) => {
                let count = fixed.value;
                (
                    Instances {
                        min: count,
                        max: count,
                    },
                    Place::of(fixed),
                )
            }
            (None, Some(scale)) => {
                let max = scale.max.value;
                let min = scale.min.as_ref().map_or(max.min(2), |min| min.value);
                (Instances { min, max }, Place::of(&scale.max))
            }
            (Some(fixed), Some(_)) => {
                let message = String::from("instances and scale say the same thing twice");
                self.problem(Place::of(fixed), message, "keep one of them");
                (INSTANCES, Place::default())
            }
            (None, None) if is_single => (Instances { min: 1, max: 1 }, Place::default()),
            (None, None) => (INSTANCES, Place::default()),
        };
        if instances.min == 0 || instances.max < instances.min || instances.max > INSTANCES_MAX {
            let message = format!(
                "{} to {} instances; must be 1 to {INSTANCES_MAX}, and max at least min",
                instances.min, instances.max
            );
            self.problem(place, message, "`serin stop` runs none");
        } else if is_single && instances.max > 1 {
            let message = format!("{} instances of what can run once", instances.max);
            let hint = match raw.alone {
                true => "leave `alone:` out for several, or write instances: 1",
                false => "write port: auto for several, or instances: 1",
            };
            self.problem(place, message, hint);
        }
        instances
    }

    fn limits(&mut self, raw: Option<&RawLimits>) -> Limits {
        let Some(raw) = raw else {
            return Limits::default();
        };
        if let Some(memory) = raw
            .memory
            .as_ref()
            .filter(|one| one.value.0 < MEMORY_BYTES_MIN)
        {
            let message = format!("{} KiB of memory", memory.value.0 >> 10);
            self.problem(
                Place::of(memory),
                message,
                "no program starts with less than 4MiB",
            );
        }
        let is_share = |cpu: f64| (CPU_MIN..=CPU_MAX).contains(&cpu);
        if let Some(cpu) = raw.cpu.as_ref().filter(|one| !is_share(one.value)) {
            let message = format!("{} of a core", cpu.value);
            self.problem(
                Place::of(cpu),
                message,
                "write 0.5 for half a core, 2 for two; from 0.01 to 1024",
            );
        }
        Limits {
            memory_bytes: raw.memory.as_ref().map(|memory| memory.value.0),
            // Within bounds, and told where it is not.
            cpu_milli: raw
                .cpu
                .as_ref()
                .map(|cpu| (cpu.value * 1_000.0).round() as u32),
        }
    }

    fn after(&mut self, name: &str, raw: &RawService, others: Option<&Others>) -> Vec<String> {
        let Some(after) = &raw.after else {
            return Vec::new();
        };
        let (place, names) = (Place::of(after), &after.value.0);
        if names.iter().any(|other| other == name) {
            let message = format!("{name} cannot wait for itself");
            self.problem(place, message, "");
        } else if let Some(others) = others {
            if let Some(unknown) = order::unknown(names, others) {
                let known = others.keys().map(String::as_str);
                let meant = serin_yaml::meant(unknown, known.filter(|other| *other != name));
                self.problem(place, format!("after: no service {unknown:?}"), &meant);
            } else if let Some(circle) = order::circle(name, names, others) {
                let message = format!("after: {} wait for each other", circle.join(" → "));
                let hint = "none of them would ever start; take one `after:` away";
                self.problem(place, message, hint);
            }
        }
        names.clone()
    }

    fn scrape(&mut self, raw: Option<&Spanned<RawScrape>>, port: Option<Port>) -> Option<Scrape> {
        let raw = raw?;
        let place = Place::of(raw);
        let RawScrape { path, every } = &raw.value;
        let every_ms = every.map_or(SCRAPE_EVERY_MS, |every| every.0.unsigned_abs() / 1_000);
        if port.is_none() {
            let message = String::from("the service has no port to read metrics from");
            self.problem(place, message, "add port: auto, and listen on $PORT");
        } else if !is_path(path) {
            let message = format!("{path:?} is no path");
            self.problem(place, message, "write scrape: /metrics");
        } else if every_ms < SCRAPE_EVERY_MS_MIN {
            let message = format!("metrics every {every_ms} ms; must be 1 s or more");
            self.problem(place, message, "write scrape: {path: /metrics, every: 15s}");
        }
        Some(Scrape {
            path: path.clone(),
            every_ms,
        })
    }

    fn answer_within(&mut self, raw: Option<&Spanned<Span>>) -> u64 {
        let millis = millis(raw, ANSWER_WITHIN_MS);
        if let Some(raw) = raw
            && !(1..=ANSWER_WITHIN_MS_MAX).contains(&millis)
        {
            let message = format!("an answer within {millis} ms");
            self.problem(Place::of(raw), message, "from 1ms to 1h");
        }
        millis
    }

    fn body_max(&mut self, raw: Option<&Spanned<RawSize>>, port: Option<Port>) -> u64 {
        let Some(raw) = raw else {
            return BODY_BYTES_MAX;
        };
        let (most, hint) = match port {
            Some(_) => (BODY_BYTES_MAX_PORT, "at most 16GiB"),
            None => (
                BODY_BYTES_MAX_BUS,
                "a body over the bus has at most 7MiB; a service with a `port:` takes larger ones",
            ),
        };
        if raw.value.0 > most {
            let message = format!("bodies of {} MiB", raw.value.0 >> 20);
            self.problem(Place::of(raw), message, hint);
        }
        raw.value.0
    }

    fn sticky(&mut self, raw: Option<&RawSticky>) -> Option<Sticky> {
        let (text, sticky) = match raw? {
            RawSticky::Cookie(text) => (text, Sticky::Cookie(text.value.clone())),
            RawSticky::Header(text) => (text, Sticky::Header(text.value.to_ascii_lowercase())),
        };
        let is_token = !text.value.is_empty()
            && text
                .value
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !is_token {
            let message = format!("{:?} is no name of a cookie or header", text.value);
            self.problem(Place::of(text), message, "letters, digits, - and _");
        }
        Some(sticky)
    }
}
