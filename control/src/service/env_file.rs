//! A `.env` file beside a `service.yaml`: `KEY=value` lines, `#` comments, quotes around a value. Pure.
//!
//! What stands in it is secret, so a fault names its line and never shows it. Start at [`read`].

use serin_yaml::{Place, Problem, code};

use super::resolve::ENV_BYTES_MAX;

/// Its name in a service's folder.
pub(crate) const FILE: &str = ".env";
/// What would be right.
const HINT: &str = "write KEY=value, one variable a line";

/// What a file says, and what is wrong with it; `file` names it in problems.
pub(crate) fn read(file: &str, text: &str) -> (Vec<(String, String)>, Vec<Problem>) {
    let (mut variables, mut problems) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let written = line.trim_start();
        if written.is_empty() || written.starts_with('#') {
            continue;
        }
        match variable(written.trim_end()) {
            Ok(variable) => variables.push(variable),
            Err((message, hint)) => {
                let indent = line.chars().count() - written.chars().count();
                let column = indent as u64 + 1;
                let place = Place {
                    line: number,
                    column,
                };
                let problem = Problem::new(file, place, code::VALUE, message);
                problems.push(problem.hint(hint.to_owned()));
            }
        }
    }
    (variables, problems)
}

/// The variable of a line, or what is wrong and what would be right.
fn variable(line: &str) -> Result<(String, String), (String, &'static str)> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let Some((name, value)) = line.split_once('=') else {
        return Err((String::from("this line has no = and sets nothing"), HINT));
    };
    let (name, value) = (name.trim(), value.trim());
    if !is_name(name) {
        let message = "what stands before = is no name of a variable";
        return Err((message.to_owned(), HINT));
    }
    if name.starts_with("SERIN_") {
        let message = format!("{name} cannot be set here");
        return Err((message, "names starting with SERIN_ are Serin's own"));
    }
    let Some(value) = unquoted(value) else {
        let message = format!("the value of {name} begins with a quote and does not end with it");
        let hint = "a value is one line, and a comment has a line of its own";
        return Err((message, hint));
    };
    if value.len() > ENV_BYTES_MAX || value.contains('\0') {
        let message = format!("the value of {name} is no text for an environment");
        return Err((message, "at most 32 KiB, without a zero byte"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    bytes.next().is_some_and(is_first)
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// A value without its quotes; `None` where one is not closed.
fn unquoted(value: &str) -> Option<&str> {
    match ['"', '\'']
        .into_iter()
        .find(|quote| value.starts_with(*quote))
    {
        Some(quote) => value[1..].strip_suffix(quote),
        None => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_and_faults_told_without_what_is_secret() {
        let text = "# keys\nexport A=1\nB = \"two words\"\nC='x=y'\n\n D=\n\
                    hunter2\n  E hunter2=1\nSERIN_BUS=hunter2\nF=\"hunter2\n=hunter2\nG=a\0b\n";
        let (variables, problems) = read("services/x/.env", text);
        let expected = [("A", "1"), ("B", "two words"), ("C", "x=y"), ("D", "")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(variables, expected);
        let told: Vec<String> = problems.iter().map(Problem::to_string).collect();
        let told = told.join("\n");
        assert!(!told.contains("hunter2"), "{told}");
        expect_test::expect![[r#"
            services/x/.env:7:1: this line has no = and sets nothing; write KEY=value, one variable a line
            services/x/.env:8:3: what stands before = is no name of a variable; write KEY=value, one variable a line
            services/x/.env:9:1: SERIN_BUS cannot be set here; names starting with SERIN_ are Serin's own
            services/x/.env:10:1: the value of F begins with a quote and does not end with it; a value is one line, and a comment has a line of its own
            services/x/.env:11:1: what stands before = is no name of a variable; write KEY=value, one variable a line
            services/x/.env:12:1: the value of G is no text for an environment; at most 32 KiB, without a zero byte"#]]
        .assert_eq(&told);
    }
}
