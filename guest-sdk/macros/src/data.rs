//! `#[data]`: the derives of a type that travels between host and guest.

use std::iter;

use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::{
    Attribute, Error, Expr, Field, Fields, Item, LitStr, Result, Token, Variant, parse_quote,
};

use crate::program::check_keys;

/// Puts the derives before `item`, each told where in the SDK to find its crate.
pub(crate) fn expand(item: &Item) -> Result<TokenStream> {
    if !matches!(item, Item::Struct(_) | Item::Enum(_)) {
        return Err(Error::new_spanned(item, "#[data] goes on a struct or an enum"));
    }
    check_fields(item)?;
    let mut item = item.clone();
    for attributes in inner_attributes(&mut item) {
        let aliases = aliases(attributes)?;
        if !aliases.is_empty() {
            attributes.push(parse_quote!(#[schemars(extend("x-aliases" = [#(#aliases),*]))]));
        }
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

/// Those of the fields and the variants.
fn inner_attributes(item: &mut Item) -> Vec<&mut Vec<Attribute>> {
    match item {
        Item::Struct(item) => item.fields.iter_mut().map(|field| &mut field.attrs).collect(),
        Item::Enum(item) => {
            let variants = item.variants.iter_mut();
            let all = variants.flat_map(|Variant { attrs, fields, .. }| {
                iter::once(attrs).chain(fields.iter_mut().map(|field| &mut field.attrs))
            });
            all.collect()
        }
        _ => Vec::new(),
    }
}

/// The other names that serde knows a field or a variant by, of which a schema says nothing by
/// itself.
fn aliases(attributes: &[Attribute]) -> Result<Vec<LitStr>> {
    let mut aliases = Vec::new();
    for attribute in attributes.iter().filter(|found| found.path().is_ident("serde")) {
        attribute.parse_nested_meta(|meta| {
            match meta.path.is_ident("alias") {
                true => aliases.push(meta.value()?.parse()?),
                false => pass_over(&meta)?,
            }
            Ok(())
        })?;
    }
    Ok(aliases)
}

fn pass_over(meta: &ParseNestedMeta<'_>) -> Result<()> {
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<Expr>()?;
    } else if meta.input.peek(syn::token::Paren) {
        let inside;
        syn::parenthesized!(inside in meta.input);
        inside.parse::<TokenStream>()?;
    }
    Ok(())
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
    fn schemas_hear_of_the_other_names_of_fields_and_variants() {
        let item = parse_quote! {
            enum Shape {
                Square {
                    #[serde(rename(serialize = "s"), default = "one", alias = "edge", alias = "e")]
                    side: f64,
                    #[serde(default)]
                    rest: u8,
                },
                #[serde(alias = "round")]
                Circle,
            }
        };
        let expanded = expand(&item).unwrap().to_string();
        assert!(expanded.contains(r#"extend ("x-aliases" = ["edge" , "e"])"#), "{expanded}");
        assert!(expanded.contains(r#"extend ("x-aliases" = ["round"])"#), "{expanded}");
        assert_eq!(expanded.matches("x-aliases").count(), 2);
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
