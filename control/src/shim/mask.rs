//! Secrets in what a program writes: each place where a value of its `.env` stands becomes `***`.
//!
//! Values are looked for as they are, line by line where they have lines, and as JSON writes them. All are
//! looked for at once, and places that overlap become one. Values of a few characters are left: they
//! would hide half of every line. Pure. Start at [`Mask::hide`].

use std::borrow::Cow;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError};
use serde_json::Value;

/// What stands in a secret's place.
const HIDDEN: &str = "***";
/// Shorter values are left: "true", a port, a log level.
const CHARS_MIN: usize = 6;
/// How a value in one line of a file writes the end of a line.
const LINE_END: &str = "\\n";

/// What is not to be seen.
#[derive(Debug, Default)]
pub(crate) struct Mask {
    /// Absent where nothing is.
    secrets: Option<AhoCorasick>,
    longest: usize,
}

impl Mask {
    /// Hides these values.
    pub(crate) fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Mask, BuildError> {
        let values = values.into_iter();
        let lines = values.flat_map(|value| value.split(['\n', '\r']).chain([value]));
        let lines = lines.flat_map(|line| line.split(LINE_END).chain([line]));
        let mut forms: Vec<String> = lines
            .map(str::trim)
            .filter(|line| line.chars().count() >= CHARS_MIN)
            .flat_map(forms)
            .collect();
        forms.sort();
        forms.dedup();
        if forms.is_empty() {
            return Ok(Mask::default());
        }
        let longest = forms.iter().map(String::len).max().unwrap_or_default();
        // Each instance has its own, and a key may have thousands of characters: the smaller kind.
        let secrets = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(forms)?;
        Ok(Mask {
            secrets: Some(secrets),
            longest,
        })
    }

    /// Bytes of the longest secret.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// A text without secrets. What begins after so many bytes is left out; who cuts before hiding has
    /// to leave the [`longest`](Mask::longest) secret room behind them, or half of one would be seen.
    pub(crate) fn hide<'a>(&self, text: &'a str, bytes_max: usize) -> Cow<'a, str> {
        let end = text.floor_char_boundary(bytes_max);
        let places = self.places(text);
        if places.is_empty() {
            return Cow::Borrowed(&text[..end]);
        }
        let mut hidden = String::with_capacity(end);
        let mut at = 0;
        for place in places.iter().filter(|place| place.start < end) {
            hidden.push_str(&text[at..place.start]);
            hidden.push_str(HIDDEN);
            at = place.end;
        }
        hidden.push_str(text.get(at..end).unwrap_or_default());
        Cow::Owned(hidden)
    }

    /// Hides what stands in a value of JSON, wherever it stands.
    pub(crate) fn hide_in(&self, value: Value) -> Value {
        if self.secrets.is_none() {
            return value;
        }
        let whole = |text: &str| self.hide(text, usize::MAX).into_owned();
        match value {
            Value::String(text) => Value::String(whole(&text)),
            Value::Number(number) => {
                let text = number.to_string();
                match self.places(&text).is_empty() {
                    true => Value::Number(number),
                    false => Value::String(whole(&text)),
                }
            }
            Value::Array(values) => values.into_iter().map(|one| self.hide_in(one)).collect(),
            Value::Object(fields) => {
                let fields = fields.into_iter();
                fields
                    .map(|(name, value)| (whole(&name), self.hide_in(value)))
                    .collect()
            }
            other => other,
        }
    }

    /// Where secrets stand, in order; those that overlap are one place.
    fn places(&self, text: &str) -> Vec<Range<usize>> {
        let mut places: Vec<Range<usize>> = Vec::new();
        let secrets = self.secrets.iter();
        // Found in the order of their ends.
        for found in secrets.flat_map(|secrets| secrets.find_overlapping_iter(text)) {
            let mut start = found.start();
            while let Some(before) = places.pop_if(|before| before.end > start) {
                start = start.min(before.start);
            }
            places.push(start..found.end());
        }
        places
    }
}

/// How a line of a secret may be written: as it is, and in JSON, by encoders that escape more or less.
fn forms(line: &str) -> [String; 5] {
    let quoted = Value::from(line).to_string();
    let json = quoted[1..quoted.len() - 1].to_owned();
    let escaped = |is_kept: fn(char) -> bool| -> String {
        let mut units = [0; 2];
        let mut text = String::with_capacity(json.len());
        for c in json.chars() {
            if is_kept(c) {
                text.push(c);
            } else {
                let units = c.encode_utf16(&mut units);
                text.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
            }
        }
        text
    };
    [
        line.to_owned(),
        escaped(|c| c.is_ascii()),
        escaped(|c| !matches!(c, '<' | '>' | '&')),
        json.replace('/', "\\/"),
        json,
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hidden(values: &[&str], text: &str) -> String {
        let mask = Mask::of(values.iter().copied()).expect("a mask");
        mask.hide(text, usize::MAX).into_owned()
    }

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        let cases: [(&[&str], &str, &str); 9] = [
            (&["hunter22"], "key hunter22, hunter22!", "key ***, ***!"),
            (&["hunter22"], "nothing here", "nothing here"),
            (&["12345", ""], "12345 is short", "12345 is short"),
            (&["hunter", "hunter22"], "hunter22", "***"),
            (&["abcdefgh", "efghijkl"], "abcdefghijkl.", "***."),
            (&["-----BEGIN\nsecret1"], "secret1", "***"),
            (&[r"-----BEGIN\nsecret1\nsecret2"], "secret2", "***"),
            (&["a&b/c<d"], r#"a\u0026b/c\u003cd a&b\/c<d"#, "*** ***"),
            (
                &["pä\"sswörd"],
                r#"{"k":"p\u00e4\"ssw\u00f6rd"}"#,
                r#"{"k":"***"}"#,
            ),
        ];
        for (values, text, expected) in cases {
            assert_eq!(hidden(values, text), expected, "{text}");
        }
    }

    #[test]
    fn a_cut_shows_no_half_of_a_secret() {
        let mask = Mask::of(["hunter22"]).expect("a mask");
        let text = "hunter22 hunter22 end";
        assert_eq!(mask.hide(text, 12), "*** ***");
        assert_eq!(mask.hide(text, 9), "*** ");
        assert_eq!(mask.hide("höh", 2), "h");
    }

    #[test]
    fn json_is_hidden_in_its_depth() {
        let mask = Mask::of(["hunter22", "123456"]).expect("a mask");
        let value = json!({"a": [{"hunter22": "x hunter22"}], "n": 1_234_567, "m": 12, "b": true});
        let expected = json!({"a": [{"***": "x ***"}], "n": "***7", "m": 12, "b": true});
        assert_eq!(mask.hide_in(value), expected);
    }
}
