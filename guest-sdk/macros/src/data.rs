//! `#[data]`: the derives of a type that travels between host and guest.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, Field, Fields, Item, Result};

use crate::program::check_keys;

/// Puts the derives before `item`, each told where in the SDK to find its crate.
pub(crate) fn expand(item: &Item) -> Result<TokenStream> {
    if !matches!(item, Item::Struct(_) | Item::Enum(_)) {
        return Err(Error::new_spanned(item, "#[data] goes on a struct or an enum"));
    }
    check_fields(item)?;
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

/// Refuses fields whose values have no form in JSON, where that is easily seen.
fn check_fields(item: &Item) -> Result<()> {
    let fields: Vec<&Fields> = match item {
        Item::Struct(item) => vec![&item.fields],
        Item::Enum(item) => item.variants.iter().map(|variant| &variant.fields).collect(),
        _ => Vec::new(),
    };
    // A field that serde is told something about may be written as something else.
    let plain = |field: &&Field| !field.attrs.iter().any(|found| found.path().is_ident("serde"));
    fields.into_iter().flatten().filter(plain).try_for_each(|field| check_keys(&field.ty))
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
    fn a_map_has_keys_that_are_names_in_json() {
        let refuse = |item: Item| expand(&item).unwrap_err().to_string();
        for item in [
            parse_quote! { struct A { pairs: BTreeMap<(u8, u8), String> } },
            parse_quote! { struct A(Vec<Option<HashMap<Vec<u8>, String>>>); },
            parse_quote! { enum A { None, Some { at: std::collections::BTreeMap<[u8; 2], ()> } } },
        ] {
            let error = refuse(item);
            assert!(error.contains("a list of pairs"), "{error}");
        }
        for item in [
            parse_quote! { struct A { by_number: BTreeMap<u64, (u8, Vec<u8>)>, all: Set<(u8,)> } },
            parse_quote! { struct A { #[serde(with = "p")] pairs: BTreeMap<(u8, u8), String> } },
        ] {
            assert!(expand(&item).is_ok());
        }
    }

    #[test]
    fn a_function_is_no_data() {
        let item = parse_quote! { fn receipt() {} };
        let error = expand(&item).unwrap_err().to_string();
        assert_eq!(error, "#[data] goes on a struct or an enum");
    }
}
