//! The command line: what can be said, and the help for it.
//!
//! Only definitions; what is done is in `commands`. Start at [`Cli`].

mod bus;
mod help;
mod own;
mod range;
mod token;

use std::net::SocketAddr;
use std::path::PathBuf;

use self::help::GLOBAL_OPTIONS;
use crate::scaffold::Lang;
use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use bus::BusAt;
pub(crate) use own::{Gateway, Launch, Serve, Shim};
pub(crate) use range::RangeArgs;
pub(crate) use token::{NewToken, Token, TokenCommand};

/// Serin: events in, KPIs and dashboards out, on one machine with one command.
#[derive(Debug, Parser)]
#[command(name = "serin", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The server to talk to; without it, the one that runs in this folder (.serin/run.json).
    #[arg(
        long,
        global = true,
        env = "SERIN_SERVER",
        value_name = "URL",
        help_heading = GLOBAL_OPTIONS
    )]
    pub(crate) server: Option<String>,
    /// The server's token; without it, the one in .serin/run.json.
    #[arg(
        long,
        global = true,
        env = "SERIN_TOKEN",
        hide_env_values = true,
        help_heading = GLOBAL_OPTIONS
    )]
    pub(crate) token: Option<String>,
    /// Print JSON instead of text for people.
    #[arg(long, global = true, help_heading = GLOBAL_OPTIONS)]
    pub(crate) json: bool,
    /// Say more about what is done; twice for still more.
    #[arg(
        short,
        long,
        global = true,
        action = clap::ArgAction::Count,
        help_heading = GLOBAL_OPTIONS
    )]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start everything in a folder: bus, services, gateway, ingest, queries, dashboards
    Up(Up),
    /// Stop what `serin up` started in this folder
    Down(Down),
    /// Emit one event
    Emit(Emit),
    /// Bring in a file: NDJSON, CSV, Parquet or an access log
    Import(Import),
    /// Import a file, propose KPIs and a dashboard, and show it
    Open(Open),
    /// Ask in SQL
    Query(Query),
    /// Ask for a KPI
    Kpi(Kpi),
    /// Check the YAML files of a folder: KPIs, dashboards, services, settings
    Check(Check),
    /// Show the settings of a folder and where each comes from
    Config(Config),
    /// Print the JSON Schema of a YAML file, for editors
    Schema(Schema),
    /// Draw a dashboard into a file
    Render(Render),
    /// List what was decided and why
    Decisions(Decisions),
    /// Copy a built-in dashboard into dashboards/, to change it there
    Copy(Copy),
    /// Commit everything taken so far
    Flush,
    /// Make a new service, ready to deploy
    New(New),
    /// Show what a service logged
    Logs(Logs),
    /// Start a version of a service: rolling, without a lost request
    Deploy(Deploy),
    /// Run an instance of a service here, beside the deployed ones
    Run(Run),
    /// Go back to the version before
    #[command(after_help = help::ROLLBACK)]
    Rollback(Named),
    /// Stop the instances of a service
    #[command(after_help = help::STOP)]
    Stop(Named),
    /// Forget a service; its folder stays
    #[command(after_help = help::RM)]
    Rm(Named),
    /// Say what runs
    #[command(after_help = help::STATUS)]
    Status(Status),
    /// Make, list and remove tokens that outlive a start
    Token(Token),
    /// Write a systemd unit that keeps a folder's server running
    Install(Install),
    /// Check a folder and what runs in it, and say what to do
    Doctor(Doctor),
    /// Serve the page and script of a folder, as an instance of a service
    #[command(hide = true)]
    Serve(Serve),
    /// Own the instances of one service
    #[command(hide = true)]
    Shim(Shim),
    /// Become a program within limits
    #[command(hide = true)]
    Launch(Launch),
    /// Be the gateway, on the listener that is standard input
    #[command(hide = true)]
    Gateway(Gateway),
    /// Answer one statement for the server, with limits of the operating system
    #[command(hide = true)]
    QueryWorker,
}

/// Where and how a folder is served: what `serin up` is told, and a unit tells it.
#[derive(Debug, Args)]
pub(crate) struct At {
    /// Where the API and the dashboards are served. Other than loopback only if you say so here.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// Where the gateway serves web services.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub(crate) gateway: SocketAddr,
    /// A port for our own bus, or the URL of one to join; without it, and with 0, our own takes a free
    /// port and keeps it. A URL with credentials is better said by the environment, since everybody on the
    /// machine can read command lines. A unit reads it from a file for its owner alone.
    #[arg(
        long,
        value_name = "PORT|URL",
        env = "SERIN_BUS",
        hide_env_values = true,
        value_parser = BusAt::read
    )]
    pub(crate) bus: Option<BusAt>,
    /// Run one instance of each service, to save memory.
    #[arg(long)]
    pub(crate) single: bool,
    /// Deploy what is under services/, and each service again when its folder is saved.
    #[arg(long)]
    pub(crate) watch: bool,
}

impl At {
    /// The port for our own bus, where one is said.
    pub(crate) fn bus_port(&self) -> Option<u16> {
        match self.bus {
            Some(BusAt::Own(port)) => port,
            Some(BusAt::Joined(_)) | None => None,
        }
    }

    /// The bus to join, where one is said.
    pub(crate) fn joined(&self) -> Option<&String> {
        match &self.bus {
            Some(BusAt::Joined(url)) => Some(url),
            Some(BusAt::Own(_)) | None => None,
        }
    }
}

/// Start everything in a folder (bus, services, gateway, ingest, queries, dashboards) and stay until
/// Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serin up                        in this folder, at http://127.0.0.1:7070
  serin up shop --listen 127.0.0.1:0     in ./shop, at a free port
  serin up --bus nats://10.0.0.5:4222    with a bus that runs already; SERIN_BUS says the same
  serin up shop --watch           deploys ./shop/services/* and each one again when it is saved

Everything is kept under DIR/.serin. Put KPIs into DIR/kpis/*.yaml and dashboards into \
DIR/dashboards/*.yaml; saving one shows it at once. Limits and retention \
are set in DIR/serin.yaml, read at start; `serin config explain` shows them all.")]
pub(crate) struct Up {
    /// The folder; made where it is missing.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    #[command(flatten)]
    pub(crate) at: At,
    /// Do not make and deploy the service `hello` in an empty folder.
    #[arg(long)]
    pub(crate) no_hello: bool,
    /// Do not open the browser on an empty folder's first steps.
    #[arg(long)]
    pub(crate) no_browser: bool,
}

/// Print the JSON Schema of the YAML files, so that an editor completes and checks them. `serin up`
/// lays the same under .serin/schema, and a running server answers them at /schema/NAME.json.
#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// kpis, dashboard, service or serin; without one, all are listed.
    pub(crate) name: Option<String>,
}

/// Stop what `serin up` started in a folder or the nearest above, and all that one left which was killed.
#[derive(Debug, Args)]
pub(crate) struct Down {
    /// The folder.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
}

/// Emit one event; done when the bus has it on disk.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serin emit order.paid amount=12.5 country=de
  serin emit order.paid amount=3 id:=\\\"7\\\" items:='[1,2]' --service cart

key=value takes numbers, true, false and null as such and everything else as text; \
key:=JSON takes the value as JSON.")]
pub(crate) struct Emit {
    /// The type of the event, such as order.paid.
    #[arg(value_name = "TYPE")]
    pub(crate) kind: String,
    /// Its attributes.
    #[arg(value_name = "key=value")]
    pub(crate) attributes: Vec<String>,
    /// The service that emits it.
    #[arg(long, default_value = "cli")]
    pub(crate) service: String,
    /// When it happened, RFC 3339; without it, now.
    #[arg(long)]
    pub(crate) time: Option<String>,
}

/// What both `import` and `open` want to know of a file.
#[derive(Debug, Clone, Args)]
pub(crate) struct Source {
    /// The file: .ndjson, .csv, .parquet or an access log, also packed (.gz).
    pub(crate) file: PathBuf,
    /// The type of its events; an access log is http.request unless said.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// The column with the time; without it, one that looks like it.
    #[arg(long, value_name = "COLUMN")]
    pub(crate) time: Option<String>,
    /// The service the events are counted under.
    #[arg(long, default_value = "import")]
    pub(crate) service: String,
    /// Take the file once more, though it was imported before.
    #[arg(long)]
    pub(crate) again: bool,
    /// The first line of a CSV file is data; its columns are column_1, column_2, …
    #[arg(long)]
    pub(crate) no_header: bool,
}

/// Bring in a file over the bus. Importing the same file twice adds nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serin import access.log                        an access log, as http.request
  serin import orders.csv --type order.paid --time paid_at
  serin import events.ndjson.gz --type signup

An import that was cut off goes on where it stopped when it is started again.")]
pub(crate) struct Import {
    #[command(flatten)]
    pub(crate) source: Source,
}

/// Import a file, write KPIs and a dashboard for it into this folder, and open the browser.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serin open access.log
  serin open orders.csv --type order.paid --no-browser

Files that are there already are never overwritten.")]
pub(crate) struct Open {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Print the link instead of opening the browser.
    #[arg(long)]
    pub(crate) no_browser: bool,
}

/// How a table is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// One array of row objects.
    Json,
    /// With a header.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

/// Ask in SQL; each event type is a table.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serin query 'SELECT count(*) FROM \"http.request\"'
  serin query 'SELECT country, sum(amount) FROM \"order.paid\" WHERE $__range GROUP BY 1' --last 1h
  serin query 'SELECT * FROM events ORDER BY time DESC LIMIT 5' --format csv")]
pub(crate) struct Query {
    /// The statement.
    pub(crate) sql: String,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// How to print it.
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
}

/// Ask for a KPI, as points over a range.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serin kpi revenue --last 1h
  serin kpi revenue --by country --from 2026-11-01T00:00:00Z --to 2026-11-02T00:00:00Z --step 1h
  serin kpi conversion --last 7d --format csv")]
pub(crate) struct Kpi {
    /// The KPI.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// Split by these dimensions.
    #[arg(long, value_delimiter = ',')]
    pub(crate) by: Vec<String>,
    /// The distance of points, such as 1m; without it, what fits the range.
    #[arg(long)]
    pub(crate) step: Option<String>,
    /// How to print it.
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
}

/// Check the YAML files of a folder (KPIs, dashboards, services, settings); exits with 1 where something is wrong.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The folder.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
}

/// The settings of a folder.
#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

/// What can be done with settings.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every setting with its value, unit, origin and what it bounds
    Explain {
        /// The folder with serin.yaml.
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
}

/// Draw a dashboard on the server into a picture.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serin render weblog -o weblog.png
  serin render weblog --from 2015-05-17T00:00:00Z --to 2015-05-21T00:00:00Z -o weblog.svg")]
pub(crate) struct Render {
    /// The dashboard.
    pub(crate) dashboard: String,
    /// The file, .png or .svg.
    #[arg(short, long)]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
}

/// List what was decided and why, newest first.
#[derive(Debug, Args)]
pub(crate) struct Decisions {
    /// Only those of this rule, KPI or service.
    pub(crate) name: Option<String>,
    /// How many.
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
}

/// Start a version of a service and wait until it serves.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serin deploy cart                 services/cart as the next version, v2
  serin deploy cart --version blue  with a name of its own

The folder is copied, built where service.yaml says `build:`, and started; when all its instances \
are ready it takes the calls, and the version before finishes what it has. One that does not get \
ready is not promoted: the version before serves on.")]
pub(crate) struct Deploy {
    /// The service, a folder under services/.
    pub(crate) name: String,
    /// The version's name; v1, v2, … where none is given.
    #[arg(long)]
    pub(crate) version: Option<String>,
}

/// Run an instance of services/NAME in this terminal, as it is there, until Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serin run cart                    takes as many calls as each deployed instance
  serin run cart --percent 100      takes all calls until it ends
  serin run cart --interactive      a breakpoint() in it reads what you type
  serin run cart --print-env        what a debugger or an editor needs to start it

The instance is of the version `dev`, is named NAME-dev-1, and shows in `serin status`. Ctrl-C takes \
it out of the routes first, so that no call is lost. While it stands at a breakpoint, new calls go to \
the others. With --print-env the lines are KEY=value, and hold a password of the bus: for a shell \
`set -a; eval \"$(serin run cart --print-env)\"`, for an editor a file.")]
pub(crate) struct Run {
    /// The service, a folder under services/.
    pub(crate) name: String,
    /// The part of the service's calls it takes, in percent; 0 for only those to the version `dev`.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) percent: Option<u32>,
    /// Print the environment instead, for whoever starts the instance.
    #[arg(long)]
    pub(crate) print_env: bool,
    /// Let it read what you type, Ctrl-C too, as a debugger in it wants; SIGTERM or its own end ends it.
    #[arg(long, short, conflicts_with = "print_env")]
    pub(crate) interactive: bool,
}

/// Saying what runs.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// List the instances that ended too, the last 64 of each service.
    #[arg(long)]
    pub(crate) all: bool,
}

/// A service by its name.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The service.
    pub(crate) name: String,
}

/// Write a systemd unit that runs `serin up` in a folder, starts it again after a crash, and starts it
/// with the machine.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serin install shop                a unit of yours, under ~/.config/systemd/user
  sudo serin install shop --system  a unit of the system, run as you
  serin install shop --print        only show it
  SERIN_BUS=nats://me:secret@10.0.0.5:4222 serin install shop    with a bus that runs already

The unit is checked by systemd-analyze where there is one. A crash leaves services, gateway and \
bus, which the restart adopts; `systemctl --user stop` ends them all.")]
pub(crate) struct Install {
    /// The folder.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// A unit of the system instead of one of yours.
    #[arg(long)]
    pub(crate) system: bool,
    /// Print the unit and write nothing.
    #[arg(long)]
    pub(crate) print: bool,
    /// Write over a unit that says something else.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) at: At,
}

/// Copy a built-in dashboard into dashboards/, to change it there; from then on the file counts.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serin copy cluster       writes dashboards/cluster.yaml

There are cluster, service and supporting. Remove the file, and the built-in one is back.")]
pub(crate) struct Copy {
    /// The name of the dashboard.
    pub(crate) dashboard: String,
}

/// Make a new service in services/NAME, with an event, a KPI, a dashboard and, in a language, a test.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serin new greet                       a page and a script; needs nothing but serin
  serin new shout --lang python         needs python3; the SDK comes with serin
  serin new cart --lang typescript      needs Node.js 20 or newer; the SDK comes with serin
  serin new price --lang rust --web=false    needs cargo; only on the bus, without a page

Nothing that is there is written over.")]
pub(crate) struct New {
    /// Its name: a-z, 0-9 and '-'.
    pub(crate) name: String,
    /// What it is written in.
    #[arg(long, value_enum, default_value = "script")]
    pub(crate) lang: Lang,
    /// Give it a page, at the gateway's path /NAME; `--web=false` leaves it out.
    #[arg(
        long,
        value_name = "BOOL",
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true"
    )]
    pub(crate) web: bool,
}

/// Check bus, disk, clock, ports, permissions, and every invariant of the lake.
#[derive(Debug, Args)]
#[command(after_help = "\
Works beside a running server and on a folder where none runs. Each finding says what to do; the \
command fails where something is bad.")]
pub(crate) struct Doctor {
    /// The folder.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
}

/// Show what the instances of a service wrote, oldest first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serin logs cart -f
  serin logs cart --level error --last 1d
  serin logs cart --text timeout --instance cart-v2-1
  serin logs cart --from 2026-11-01T10:00:00Z --to 2026-11-01T10:05:00Z")]
pub(crate) struct Logs {
    /// The service.
    pub(crate) name: String,
    /// Go on with what is written from now on.
    #[arg(short, long, conflicts_with = "to")]
    pub(crate) follow: bool,
    /// Only this level and graver ones: trace, debug, info, warn or error.
    #[arg(long)]
    pub(crate) level: Option<String>,
    /// Only this instance.
    #[arg(long)]
    pub(crate) instance: Option<String>,
    /// Only lines with this text, in upper or lower case.
    #[arg(long)]
    pub(crate) text: Option<String>,
    /// When they were written; the last hour unless said.
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// The newest so many lines.
    #[arg(long, default_value_t = 200)]
    pub(crate) lines: u32,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_fit_together() {
        Cli::command().debug_assert();
    }
}
