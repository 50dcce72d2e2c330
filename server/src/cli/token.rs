//! `serin token …`: what can be said of tokens that outlive a start.

use clap::{Args, Subcommand};

/// Tokens for programs that ask this server, from elsewhere and after its next start too. Only their
/// hashes are kept.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serin token new ci                    good for 90 days
  serin token new grafana --for never   good until it is removed
  serin token list
  serin token rm ci                     refused from now on

A stored token may do everything but make and remove tokens and sign browsers in. These commands \
want the token of this start, which is found in this folder (.serin/run.json).")]
pub(crate) struct Token {
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it, this once
    New(NewToken),
    /// List the tokens there are
    List,
    /// Remove a token; it is refused at once
    Rm {
        /// Its name.
        name: String,
    },
}

/// A token to be made.
#[derive(Debug, Args)]
pub(crate) struct NewToken {
    /// What to call it: a-z, 0-9 and '-'.
    pub(crate) name: String,
    /// How long it is good: 12h, 30d or 1w, at most 3650d; or never, for no end.
    #[arg(long = "for", value_name = "SPAN", default_value = "90d")]
    pub(crate) lasts: String,
}
