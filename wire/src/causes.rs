//! An error as a line for people: what failed, and why.

use std::error::Error;

/// An error with its causes, in one line; what a cause repeats is left out.
pub fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    #[error("{0}")]
    struct Said(&'static str, #[source] Option<Box<Said>>);

    #[test]
    fn causes_follow_and_are_said_once() {
        let said = |text, cause: Option<Said>| Said(text, cause.map(Box::new));
        let disk = said("disk full", None);
        let middle = said("cannot write: disk full", Some(disk));
        let error = said("cannot flush", Some(middle));
        assert_eq!(sentence(&error), "cannot flush: cannot write: disk full");
    }
}
