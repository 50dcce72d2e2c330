//! The end-to-end tests: one program, real parts, a fresh Serin for each test.
//!
//! `begun` reads what a start says; `weblog` is the main job, `imports` brings files in; `duck` compares with a second reader; `kill`,
//! `power`, `faults` and `bits` take things away, while `writers` remember what was acknowledged and `audit` looks;
//! `doors` and `hostile` send what nobody should; `absent` asks for what is not there; `printed` reads what commands print, `limits` what is said at each limit; `browser`, `states`, `pages`, `looks` and `first_steps` look through Chromium; `docs` runs what the book says;
//! `monitoring` watches the built-in dashboards, `marks` what is marked on them; `circle` sees a decision come round;
//! `shop` opens the shop of ten services; `otlp` hears the official exporters; `tokens` outlive starts; `dist` unpacks what is handed out.

#![expect(
    clippy::disallowed_methods,
    reason = "tests are an edge: time enters here"
)]
#![expect(clippy::print_stdout, reason = "a seed that was rolled must be seen")]

mod absent;
mod audit;
mod begun;
mod bits;
mod browser;
mod chromium;
mod circle;
mod dist;
mod docs;
mod doors;
mod duck;
mod ending;
mod faults;
mod first_steps;
mod hostile;
mod imports;
mod kill;
mod limits;
mod looks;
mod marks;
mod monitoring;
mod otlp;
mod pages;
mod power;
mod printed;
mod services;
mod shop;
mod states;
mod tokens;
mod weblog;
mod writers;
mod writing;
