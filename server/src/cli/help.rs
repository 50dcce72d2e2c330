//! The help as a whole: what all commands share stands apart, and is left out where it means nothing;
//! examples of commands that take no more than a name.
//!
//! Paragraphs are one line each, so that they break where the terminal ends. Start at [`Cli::read`].

use clap::{Command, CommandFactory, FromArgMatches};

use super::Cli;

/// Over the options of every command.
pub(super) const GLOBAL_OPTIONS: &str = "Global options";

/// Commands that ask no server, or look for it in the folder they are given.
const ASK_NO_SERVER: [&str; 9] = [
    "up", "down", "check", "config", "schema", "new", "install", "doctor", "explain",
];
/// The options that name a server.
const SERVER_OPTIONS: [&str; 2] = ["server", "token"];

pub(super) const ROLLBACK: &str = "\
Examples:
  serin rollback cart

The version that served before is started again and takes the calls once it is ready. That is waited \
for as in a deploy; where it does not get ready, what serves goes on.";

pub(super) const STOP: &str = "\
Examples:
  serin stop cart
  serin deploy cart    starts it again

Instances finish what they have within the `stop_within` of service.yaml, and that is waited for. The \
service stays known, and stays stopped when Serin is started again.";

pub(super) const RM: &str = "\
Examples:
  serin rm cart
  serin deploy cart    has it again, from services/cart

Instances end and the copies of its versions go; services/cart and all that it logged, emitted and \
answered stay.";

pub(super) const STATUS: &str = "\
Examples:
  serin status
  serin status --json
  serin status --all    with the instances that ended, and how
  watch serin status

The worst comes first. `2 of 2, 2 draining` are two that take the calls, and two of the version before \
that finish what they have. One that ended though nobody asked it to is shown dead for a minute, and \
what is not heard for two seconds silent. For what to do about it ask `serin doctor`.";

impl Cli {
    /// What the command line says; ends the program where it says nothing that can be done.
    pub(crate) fn read() -> Cli {
        let said = Cli::from_arg_matches(&command().get_matches());
        said.unwrap_or_else(|error| error.exit())
    }
}

/// The definitions, with the help as it is shown.
fn command() -> Command {
    let mut command = Cli::command();
    // Only then have the commands what is said once for all.
    command.build();
    without_server(command)
}

fn without_server(command: Command) -> Command {
    command.mut_subcommands(|command| {
        let hides = ASK_NO_SERVER.contains(&command.get_name());
        let command = command.mut_args(|option| {
            let is_one = hides && SERVER_OPTIONS.contains(&option.get_id().as_str());
            match is_one {
                true => option.hide(true),
                false => option,
            }
        });
        without_server(command)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(name: &str) -> String {
        let mut command = command();
        let of = command.find_subcommand_mut(name).expect("a command");
        of.render_long_help().to_string()
    }

    #[test]
    fn what_names_a_server_is_shown_where_one_is_asked() {
        for name in ["up", "check", "schema", "new", "install"] {
            let help = help(name);
            assert!(!help.contains("--server"), "{help}");
            assert!(help.contains("--json"), "{help}");
        }
        for name in ["logs", "stop", "status"] {
            let help = help(name);
            let (own, global) = help.split_once(GLOBAL_OPTIONS).expect("a heading");
            assert!(!own.contains("--json"), "{help}");
            assert!(global.contains("--server"), "{help}");
        }
    }

    #[test]
    fn paragraphs_break_where_the_terminal_ends() {
        let is_text = |line: &str| !line.is_empty() && !line.starts_with(' ');
        for one in command().get_subcommands() {
            let after = one.get_after_help().map(ToString::to_string);
            let after = after.unwrap_or_default();
            let lines: Vec<&str> = after.lines().collect();
            for two in lines.windows(2) {
                let breaks = is_text(two[0]) && is_text(two[1]);
                assert!(!breaks, "{}: {two:?}", one.get_name());
            }
        }
    }
}
