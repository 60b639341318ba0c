//! `#[data]`: the derives of a type that travels between host and guest.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Item, Result};

/// Puts the derives before `item`, each told where in the SDK to find its crate.
pub(crate) fn expand(item: &Item) -> Result<TokenStream> {
    if !matches!(item, Item::Struct(_) | Item::Enum(_)) {
        return Err(Error::new_spanned(item, "#[data] goes on a struct or an enum"));
    }
    Ok(quote! {
        #[derive(
            ::guest_sdk::__private::serde::Serialize,
            ::guest_sdk::__private::serde::Deserialize,
            ::guest_sdk::__private::schemars::JsonSchema,
        )]
        #[serde(crate = "::guest_sdk::__private::serde")]
        #[schemars(crate = "::guest_sdk::__private::schemars")]
        #item
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    #[test]
    fn a_struct_keeps_its_own_attributes() {
        let item = parse_quote! { #[serde(default)] struct Receipt { left: u64 } };
        let expanded = expand(&item).unwrap().to_string();
        assert!(expanded.contains("serde (default)"), "{expanded}");
        assert!(expanded.contains("JsonSchema"), "{expanded}");
    }

    #[test]
    fn a_function_is_no_data() {
        let item = parse_quote! { fn receipt() {} };
        let error = expand(&item).unwrap_err().to_string();
        assert_eq!(error, "#[data] goes on a struct or an enum");
    }
}
