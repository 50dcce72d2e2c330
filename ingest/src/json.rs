//! Reads the text of one JSON object into a flat list of its fields, without building a tree.
//!
//! The ingester's hottest step. Nested objects are entered a few levels deep, since their keys
//! become columns; arrays and what lies deeper are checked and kept as a stretch of the text.
//! Numbers and strings are not converted here, so that nothing is lost of what does not fit later.
//! The grammar is RFC 8259, no more and no less; half a surrogate pair passes the scan and is told
//! by [`unescape`]. Start at [`scan`].

use thiserror::Error;

/// Objects are entered this deep; a deeper one is kept as text.
const FLATTEN_DEPTH_MAX: usize = 8;
/// Brackets within brackets; what is stored must not break a reader with a small stack.
const DEPTH_MAX: usize = 128;
/// The parent of a field of the outermost object.
pub(crate) const TOP: u32 = u32::MAX;

/// Why a text is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum JsonError {
    #[error("the data are not UTF-8")]
    Utf8,
    #[error("the data are not JSON: expected {expected} at byte {at}")]
    Syntax { at: usize, expected: &'static str },
    #[error("the data are nested more than {DEPTH_MAX} deep")]
    Depth,
    #[error(
        "a text of {bytes} bytes is longer than {bytes_max} (the limit ingest.string_kib_max); shorten it, or raise the limit"
    )]
    Text { bytes: usize, bytes_max: usize },
}

/// A stretch of the text, from and to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    from: u32,
    to: u32,
}

impl Span {
    pub(crate) fn of(self, text: &str) -> &str {
        &text[self.from as usize..self.to as usize]
    }
}

/// One field of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    /// The place of the field whose object holds this one, or [`TOP`].
    pub(crate) parent: u32,
    /// Between the quotes, escapes not undone.
    pub(crate) key: Span,
    /// Whether the key has escapes.
    pub(crate) is_key_escaped: bool,
    pub(crate) kind: Kind,
    /// The whole value as written; of a text what stands between the quotes.
    pub(crate) value: Span,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    /// Without fraction and exponent.
    Int,
    Double,
    Text {
        is_escaped: bool,
    },
    Array,
    /// Entered: its fields follow and name this one as parent.
    Object,
    /// Not entered: empty, or too deep.
    Closed,
}

/// Reads the text of a JSON object. `fields` is emptied first and can be used again and again.
pub(crate) fn scan<'a>(
    text: &'a [u8],
    text_bytes_max: usize,
    fields: &mut Vec<Field>,
) -> Result<&'a str, JsonError> {
    fields.clear();
    let text = std::str::from_utf8(text).map_err(|_| JsonError::Utf8)?;
    let mut scanner = Scanner {
        text: text.as_bytes(),
        at: 0,
        text_bytes_max,
        fields,
    };
    scanner.space();
    if scanner.peek() != Some(b'{') {
        return Err(scanner.expected("an object"));
    }
    scanner.object(TOP, 1)?;
    scanner.space();
    match scanner.peek() {
        None => Ok(text),
        Some(_) => Err(scanner.expected("the end")),
    }
}

struct Scanner<'t, 'f> {
    text: &'t [u8],
    at: usize,
    text_bytes_max: usize,
    fields: &'f mut Vec<Field>,
}

impl Scanner<'_, '_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn expected(&self, expected: &'static str) -> JsonError {
        let at = self.at;
        JsonError::Syntax { at, expected }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(self.expected(expected));
        }
        self.at += 1;
        Ok(())
    }

    fn span(&self, from: usize, to: usize) -> Span {
        // An event is bounded far below 4 GiB before it comes here.
        Span {
            from: from as u32,
            to: to as u32,
        }
    }

    /// Stands at `{` of an object that is entered; recursion is bounded by `FLATTEN_DEPTH_MAX`.
    fn object(&mut self, parent: u32, depth: usize) -> Result<(), JsonError> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.take(b'"', "a key")?;
            let key_from = self.at;
            let is_key_escaped = self.string()?;
            let key = self.span(key_from, self.at - 1);
            self.space();
            self.take(b':', "a colon")?;
            self.space();
            let place = self.fields.len();
            let value_from = self.at;
            self.fields.push(Field {
                parent,
                key,
                is_key_escaped,
                kind: Kind::Null,
                value: key,
            });
            let kind = self.value(place as u32, depth)?;
            let value = match kind {
                Kind::Text { .. } => self.span(value_from + 1, self.at - 1),
                _ => self.span(value_from, self.at),
            };
            let field = &mut self.fields[place];
            field.kind = kind;
            field.value = value;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.expected("a comma or the end of the object")),
            }
            self.space();
        }
    }

    fn value(&mut self, place: u32, depth: usize) -> Result<Kind, JsonError> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                let is_escaped = self.string()?;
                Ok(Kind::Text { is_escaped })
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true", Kind::Bool(true)),
            Some(b'f') => self.word(b"false", Kind::Bool(false)),
            Some(b'n') => self.word(b"null", Kind::Null),
            Some(b'{') if depth < FLATTEN_DEPTH_MAX => {
                let before = self.fields.len();
                self.object(place, depth + 1)?;
                let is_empty = self.fields.len() == before;
                Ok(if is_empty { Kind::Closed } else { Kind::Object })
            }
            Some(b'{') => self.nested(depth).map(|()| Kind::Closed),
            Some(b'[') => {
                let from = self.at;
                self.nested(depth)?;
                self.bounded(self.at - from)?;
                Ok(Kind::Array)
            }
            _ => Err(self.expected("a value")),
        }
    }

    fn bounded(&self, bytes: usize) -> Result<(), JsonError> {
        let bytes_max = self.text_bytes_max;
        if bytes > bytes_max {
            return Err(JsonError::Text { bytes, bytes_max });
        }
        Ok(())
    }

    fn word(&mut self, word: &'static [u8], kind: Kind) -> Result<Kind, JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        Ok(kind)
    }

    /// Stands behind the opening quote, goes behind the closing one; whether there are escapes.
    fn string(&mut self) -> Result<bool, JsonError> {
        let from = self.at;
        let mut is_escaped = false;
        loop {
            self.at = plain_end(self.text, self.at);
            match self.peek() {
                Some(b'"') => {
                    self.bounded(self.at - from)?;
                    self.at += 1;
                    return Ok(is_escaped);
                }
                Some(b'\\') => {
                    is_escaped = true;
                    self.at += 1;
                    self.escape()?;
                }
                Some(_) => return Err(self.expected("no control character in a text")),
                None => return Err(self.expected("the end of a text")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                let digits = self.text.get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.expected("u and four hex digits"));
                }
                self.at += 5;
                Ok(())
            }
            _ => Err(self.expected("an escape")),
        }
    }

    fn number(&mut self) -> Result<Kind, JsonError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.expected("a digit")),
        }
        let mut kind = Kind::Int;
        if self.peek() == Some(b'.') {
            kind = Kind::Double;
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            kind = Kind::Double;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Ok(kind)
    }

    fn some_digits(&mut self) -> Result<(), JsonError> {
        let from = self.at;
        self.digits();
        if self.at == from {
            return Err(self.expected("a digit"));
        }
        Ok(())
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }

    /// Checks an array or object that is kept as text; no recursion, a stack of open brackets.
    fn nested(&mut self, depth: usize) -> Result<(), JsonError> {
        let mut open: Vec<u8> = Vec::with_capacity(8);
        loop {
            // Here a value begins.
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    open.push(bracket);
                    if depth + open.len() > DEPTH_MAX {
                        return Err(JsonError::Depth);
                    }
                    self.at += 1;
                    self.space();
                    if self.peek() != Some(closing(bracket)) {
                        if bracket == b'{' {
                            self.nested_key()?;
                        }
                        continue;
                    }
                }
                // Only a bracket would look at place and depth.
                _ => {
                    self.value(TOP, FLATTEN_DEPTH_MAX)?;
                }
            }
            // Here a value has ended, or a bracket is about to close.
            loop {
                self.space();
                let Some(&bracket) = open.last() else {
                    return Ok(());
                };
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                        if bracket == b'{' {
                            self.nested_key()?;
                        }
                        break;
                    }
                    Some(byte) if byte == closing(bracket) => {
                        self.at += 1;
                        open.pop();
                        if open.is_empty() {
                            return Ok(());
                        }
                    }
                    _ => return Err(self.expected("a comma or a closing bracket")),
                }
            }
        }
    }

    fn nested_key(&mut self) -> Result<(), JsonError> {
        self.take(b'"', "a key")?;
        self.string()?;
        self.space();
        self.take(b':', "a colon")?;
        self.space();
        Ok(())
    }
}

fn closing(bracket: u8) -> u8 {
    if bracket == b'{' { b'}' } else { b']' }
}

/// Where the first quote, backslash or control character stands, from `at` on; eight bytes a step.
fn plain_end(text: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // A byte that is zero borrows into its high bit; the first such byte is exact, later ones may
    // be wrong, and only the first is used.
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    while let Some(chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = has_zero(word ^ (ONES * u64::from(b'"')));
        let backslash = has_zero(word ^ (ONES * u64::from(b'\\')));
        let found = (control | quote | backslash) & HIGH;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(&byte) = text.get(at) {
        if byte < 0x20 || byte == b'"' || byte == b'\\' {
            return at;
        }
        at += 1;
    }
    at
}

/// Undoes the escapes of a text that passed [`scan`]; `false` where it has half a surrogate pair,
/// which no UTF-8 text can hold.
pub(crate) fn unescape(raw: &str, out: &mut String) -> bool {
    out.clear();
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let Some(&letter) = rest.as_bytes().get(at + 1) else {
            return false;
        };
        rest = &rest[at + 2..];
        let plain = match letter {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => match take_unicode(&mut rest) {
                Some(plain) => plain,
                None => return false,
            },
            other => char::from(other),
        };
        out.push(plain);
    }
    out.push_str(rest);
    true
}

fn take_unicode(rest: &mut &str) -> Option<char> {
    let first = take_hex(rest)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first);
    }
    *rest = rest.strip_prefix("\\u")?;
    let second = take_hex(rest)?;
    if !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
}

fn take_hex(rest: &mut &str) -> Option<u32> {
    let digits = rest.get(..4)?;
    *rest = &rest[4..];
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn check(text: &[u8]) -> Result<(), JsonError> {
        scan(text, 1 << 20, &mut Vec::new()).map(|_| ())
    }

    /// serde_json's opinion without making values, so that half pairs and huge numbers pass.
    fn is_object_by_serde(text: &[u8]) -> bool {
        serde_json::from_slice::<&RawValue>(text).is_ok_and(|raw| raw.get().starts_with('{'))
    }

    #[test]
    fn fields_come_out_flat() {
        let text = r#"{"a":1,"b":{"c":"x\"y","d":{}},"e":[1,{"f":2}],"g":-1.5e3,"h":null}"#;
        let mut fields = Vec::new();
        let text = scan(text.as_bytes(), 100, &mut fields).expect("good JSON");
        let shown: Vec<String> = fields
            .iter()
            .map(|f| format!("{} {:?} {}", f.key.of(text), f.kind, f.value.of(text)))
            .collect();
        expect_test::expect![[r#"
            a Int 1
            b Object {"c":"x\"y","d":{}}
            c Text { is_escaped: true } x\"y
            d Closed {}
            e Array [1,{"f":2}]
            g Double -1.5e3
            h Null null"#]]
        .assert_eq(&shown.join("\n"));
        assert_eq!(fields[2].parent, 1);
    }

    #[test]
    fn bad_texts_are_refused() {
        for bad in [
            "",
            "{",
            "[]",
            "1",
            "{]",
            "{}x",
            "{a:1}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":+1}",
            "{\"a\":1e}",
            "{\"a\":tru}",
            "{\"a\":1,}",
            "{\"a\":[1,]}",
            "{\"a\":[1}}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"",
            "{\"a\":NaN}",
            "{\"a\":-}",
            "{,}",
            "{\"a\":1 \"b\":2}",
        ] {
            assert!(check(bad.as_bytes()).is_err(), "{bad}");
            assert!(!is_object_by_serde(bad.as_bytes()), "{bad}");
        }
        assert_eq!(check(b"{\"a\":\"\xff\"}"), Err(JsonError::Utf8));
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let nested = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
        assert_eq!(check(nested(DEPTH_MAX - 1).as_bytes()), Ok(()));
        assert_eq!(check(nested(DEPTH_MAX).as_bytes()), Err(JsonError::Depth));
        assert_eq!(check(nested(1_000_000).as_bytes()), Err(JsonError::Depth));
        let objects = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        assert_eq!(check(objects.as_bytes()), Err(JsonError::Depth));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(11));
        let error = scan(long.as_bytes(), 10, &mut Vec::new());
        assert_eq!(
            error,
            Err(JsonError::Text {
                bytes: 11,
                bytes_max: 10
            })
        );
    }

    #[test]
    fn escapes_are_undone() {
        let mut out = String::new();
        assert!(unescape(r#"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00z"#, &mut out));
        assert_eq!(out, "\"\\/\u{8}\u{c}\n\r\té😀z");
        for half in [r"\ud83d", r"\ud83dx", r"\ude00", r"\ud83d\u0041"] {
            assert!(!unescape(half, &mut out), "{half}");
        }
    }

    proptest! {
        /// Texts near JSON: our scan and serde_json's agree about each.
        #[test]
        fn agrees_with_serde_json(
            text in r#"[\{\}\[\]",:\\ u0-9eE.+\-a-ftrnl\n]{0,40}"#,
            value in r#"(\{|\[|"a"|"\\u[0-9a-f]{4}"|:|,|-?[0-9]{1,3}|\.5|e9|true|null|\}|\]| ){0,12}"#,
        ) {
            prop_assert_eq!(check(text.as_bytes()).is_ok(), is_object_by_serde(text.as_bytes()));
            let object = format!("{{\"k\":{value}}}");
            prop_assert_eq!(check(object.as_bytes()).is_ok(), is_object_by_serde(object.as_bytes()));
        }
    }
}
