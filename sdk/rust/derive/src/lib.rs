//! `#[derive(Event)]`: a struct becomes a typed event of the SDK.
//!
//! `#[event("order.paid")]` names the type. Its form is checked here, so that a slip is an error of
//! the compiler and not a count of dropped events.

use proc_macro::TokenStream;
use quote::quote;
use syn::{DeriveInput, Error, LitStr, parse_macro_input};

/// Implements `serin_sdk::Event` for a struct that is `Serialize`.
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    match implement(&input) {
        Ok(tokens) => tokens.into(),
        Err(error) => error.into_compile_error().into(),
    }
}

fn implement(input: &DeriveInput) -> Result<proc_macro2::TokenStream, Error> {
    let attribute = input
        .attrs
        .iter()
        .find(|attribute| attribute.path().is_ident("event"))
        .ok_or_else(|| {
            let wanted = "name the event's type, such as #[event(\"order.paid\")]";
            Error::new_spanned(&input.ident, wanted)
        })?;
    let kind: LitStr = attribute.parse_args()?;
    if !is_event_type(&kind.value()) {
        let rule = "an event type is words of a-z, A-Z, 0-9, '_' and '-' joined by dots, at most \
            128 characters";
        return Err(Error::new_spanned(&kind, rule));
    }
    let name = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        impl #generics ::serin_sdk::Event for #name #arguments #bounds {
            const TYPE: &'static str = #kind;
        }
    })
}

/// The form `serin_wire::name::check_any_type` asks for; said again here, since a procedural macro
/// should not compile the wire a second time for the compiler's own machine.
fn is_event_type(kind: &str) -> bool {
    let is_word = |word: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        !word.is_empty() && word.bytes().all(is_plain)
    };
    kind.len() <= 128 && kind.split('.').all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_taken_and_checked() {
        let good: DeriveInput =
            syn::parse_quote! { #[event("order.paid")] struct Paid<'a>(&'a str); };
        let tokens = implement(&good).expect("a good type").to_string();
        assert!(
            tokens.contains("\"order.paid\"") && tokens.contains("'a"),
            "{tokens}"
        );
        let bad: DeriveInput = syn::parse_quote! { #[event("order paid")] struct Paid; };
        assert!(implement(&bad).is_err());
        let none: DeriveInput = syn::parse_quote! { struct Paid; };
        assert!(implement(&none).is_err());
    }
}
