//! A range of time, as commands that ask for one take it.

use clap::Args;

/// A range of time.
#[derive(Debug, Clone, Args)]
pub(crate) struct RangeArgs {
    /// The range from so long ago until now: 90s, 5m, 6h, 7d.
    #[arg(long, value_name = "SPAN", value_parser = span, conflicts_with_all = ["from", "to"])]
    pub(crate) last: Option<String>,
    /// Where the range begins: RFC 3339, a date (its midnight in UTC), now-6h.
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<String>,
    /// Where it ends: RFC 3339, a date (its midnight in UTC: that day is left out), now.
    #[arg(long, value_name = "TIME")]
    pub(crate) to: Option<String>,
}

/// What was typed, where it is a span of time.
fn span(text: &str) -> Result<String, &'static str> {
    match serin_yaml::parse_span(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("it is no span of time; write a number and s, m, h, d or w, such as 90s or 5m"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Cli;

    #[test]
    fn a_span_that_is_none_is_named_as_it_was_typed() {
        let bad = Cli::try_parse_from(["serin", "logs", "cart", "--last", "5x"]);
        let said = bad.expect_err("no span").to_string();
        assert!(
            said.contains("'5x' for '--last <SPAN>': it is no span"),
            "{said}"
        );
        assert!(Cli::try_parse_from(["serin", "logs", "cart", "--last", "2w"]).is_ok());
    }

    #[test]
    fn a_range_is_said_in_one_way_only() {
        let both = Cli::try_parse_from(["serin", "kpi", "x", "--last", "1h", "--from", "now-1h"]);
        assert!(both.is_err());
    }
}
