//! Typed events, and the fields of the `event!` macro, written as JSON without building a tree.

use serde::ser::{Serialize, SerializeMap, Serializer};

/// A struct that is an event of one type; `#[derive(Event)]` with `#[event("order.paid")]`.
pub trait Event: Serialize {
    /// The event type.
    const TYPE: &'static str;
}

/// Fields of an event, one after the other; made by `event!`.
#[doc(hidden)]
pub struct Fields<F>(pub F);

/// A list of fields: `()`, or one and the rest.
#[doc(hidden)]
pub trait FieldList {
    fn put<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;
}

impl FieldList for () {
    fn put<M: SerializeMap>(&self, _map: &mut M) -> Result<(), M::Error> {
        Ok(())
    }
}

impl<T: Serialize + ?Sized, Rest: FieldList> FieldList for (&str, &T, Rest) {
    fn put<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry(self.0, self.1)?;
        self.2.put(map)
    }
}

impl<F: FieldList> Serialize for Fields<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.0.put(&mut map)?;
        map.end()
    }
}

/// Emits an event from fields: `event!(serin, "order.paid", amount = 3, currency = "EUR")`.
///
/// A name that is not an identifier is given as text: `"cart.size" = 2`.
#[macro_export]
macro_rules! event {
    ($serin:expr, $kind:expr $(, $($fields:tt)*)?) => {
        $serin.emit($kind, &$crate::Fields($crate::event_fields!($($($fields)*)?)))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! event_fields {
    () => { () };
    ($name:ident = $value:expr $(, $($rest:tt)*)?) => {
        (::core::stringify!($name), &$value, $crate::event_fields!($($($rest)*)?))
    };
    ($name:literal = $value:expr $(, $($rest:tt)*)?) => {
        ($name, &$value, $crate::event_fields!($($($rest)*)?))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_one_object() {
        let name = String::from("x");
        let fields = Fields(crate::event_fields!(
            amount = 3,
            "cart.size" = name,
            last = [1.5]
        ));
        assert_eq!(
            serde_json::to_string(&fields).expect("plain values"),
            r#"{"amount":3,"cart.size":"x","last":[1.5]}"#
        );
        assert_eq!(serde_json::to_string(&Fields(())).expect("nothing"), "{}");
    }
}
