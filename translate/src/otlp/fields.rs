//! The fields of a protobuf message, one after another, without decoding what they hold.
//!
//! So a body is taken apart into its records before any of them takes memory of its own. The format:
//! <https://protobuf.dev/programming-guides/encoding/>.

/// A field whose content is bytes: a message, a text, bytes, or packed numbers; or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) tag: u32,
    pub(super) content: Content<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content<'a> {
    Bytes(&'a [u8]),
    Number(u64),
}

/// The message breaks off or is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

/// The fields of a message in their order; ends after the first that is broken.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    left: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Fields<'a> {
        Fields { left: message }
    }

    /// The messages in the fields of this tag.
    pub(super) fn messages(
        message: &'a [u8],
        tag: u32,
    ) -> impl Iterator<Item = Result<&'a [u8], Broken>> + Clone {
        Fields::of(message).filter_map(move |field| match field {
            Ok(field) if field.tag != tag => None,
            Ok(Field {
                content: Content::Bytes(bytes),
                ..
            }) => Some(Ok(bytes)),
            Ok(_) | Err(Broken) => Some(Err(Broken)),
        })
    }

    fn field(&mut self) -> Result<Field<'a>, Broken> {
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3).map_err(|_| Broken)?;
        let content = match key & 7 {
            0 => Content::Number(self.varint()?),
            1 => Content::Number(self.fixed(8)?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Broken)?;
                Content::Bytes(self.bytes(length)?)
            }
            5 => Content::Number(self.fixed(4)?),
            // Groups, which OTLP never had.
            _ => return Err(Broken),
        };
        match tag {
            0 => Err(Broken),
            tag => Ok(Field { tag, content }),
        }
    }

    fn varint(&mut self) -> Result<u64, Broken> {
        let mut value = 0;
        for place in 0..10 {
            let (first, rest) = self.left.split_first().ok_or(Broken)?;
            self.left = rest;
            value |= u64::from(first & 0x7f) << (7 * place);
            if first & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Broken)
    }

    fn fixed(&mut self, bytes: usize) -> Result<u64, Broken> {
        let bytes = self.bytes(bytes)?;
        let shifted = bytes
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte));
        Ok(shifted)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.left.split_at_checked(length).ok_or(Broken)?;
        self.left = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.left = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_one_by_one() {
        let message = [0x08, 0x96, 0x01, 0x12, 2, b'a', b'b', 0x1d, 1, 0, 0, 0];
        let fields: Vec<_> = Fields::of(&message)
            .collect::<Result<_, _>>()
            .expect("good");
        let field = |tag, content| Field { tag, content };
        let wanted = [
            field(1, Content::Number(150)),
            field(2, Content::Bytes(b"ab")),
            field(3, Content::Number(1)),
        ];
        assert_eq!(fields, wanted);
        assert_eq!(Fields::messages(&message, 2).next(), Some(Ok(&b"ab"[..])));
        assert_eq!(Fields::messages(&message, 1).next(), Some(Err(Broken)));
    }

    #[test]
    fn broken_messages_end() {
        for message in [
            &[0x12, 5, b'a'][..],
            &[0x08][..],
            &[0x0b, 1][..],
            &[0x00, 1][..],
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f][..],
            &[0xff; 12][..],
        ] {
            let fields: Vec<_> = Fields::of(message).collect();
            assert_eq!(fields, [Err(Broken)], "{message:?}");
        }
    }
}
