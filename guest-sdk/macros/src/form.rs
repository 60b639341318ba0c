//! Versions of a state: `#[state]`, and the arguments of `#[guest]`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned as _;
use syn::{Error, Ident, Item, LitInt, Result, Token, Type};

/// `version = 3, from = OldLedger`.
pub(crate) struct Form {
    version: u32,
    from: Option<Type>,
}

impl Form {
    /// Reads the arguments of an attribute; without any there is no form.
    ///
    /// # Errors
    ///
    /// The first thing that is no argument.
    pub(crate) fn parse(attribute: TokenStream) -> Result<Option<Self>> {
        if attribute.is_empty() {
            return Ok(None);
        }
        syn::parse2(attribute).map(Some)
    }

    /// Implements the SDK's `State` for `ty`.
    pub(crate) fn implement(&self, ty: &Type) -> TokenStream {
        let version = self.version;
        let older = match &self.from {
            None => quote!(::guest_sdk::__private::unknown_version(version, #version)),
            Some(from) => quote_spanned!(from.span()=>
                ::guest_sdk::__private::migrate::<#from, Self>(version, #version)
            ),
        };
        let ascending = self.from.as_ref().map(|from| {
            quote_spanned!(from.span()=> const _: () = ::core::assert!(
                <#from as ::guest_sdk::State>::VERSION < #version,
                "the form that a state comes `from` has a smaller version",
            );)
        });
        let load = quote_spanned!(ty.span()=> ::guest_sdk::__private::read_state::<#ty>());
        let save = quote_spanned!(ty.span()=> ::guest_sdk::__private::write_state::<#ty>(self));
        quote! {
            #[automatically_derived]
            impl ::guest_sdk::State for #ty {
                const VERSION: u32 = #version;

                fn save(&self) -> ::core::result::Result<(), ::guest_sdk::Rejection> { #save }

                fn load(
                    version: u32,
                ) -> ::core::result::Result<Self, ::guest_sdk::Rejection> {
                    if version == #version { #load } else { #older }
                }
            }

            #ascending
        }
    }
}

/// The arguments of `#[guest]`: `files`, before a form.
pub(crate) struct Arguments {
    /// It reads files with std.
    pub(crate) files: bool,
    pub(crate) form: Option<Form>,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let is_files = |name: Ident| name == "files";
        let files = input.fork().parse().is_ok_and(is_files);
        if files {
            input.parse::<Ident>()?;
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let form = if input.is_empty() { None } else { Some(input.parse()?) };
        Ok(Self { files, form })
    }
}

impl Parse for Form {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let (mut version, mut from) = (None, None);
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            input.parse::<Token![=]>()?;
            let twice = if name == "version" {
                let number: LitInt = input.parse()?;
                let value: u32 = number.base10_parse()?;
                if value == 0 {
                    return Err(Error::new(number.span(), "versions count from 1"));
                }
                version.replace(value).is_some()
            } else if name == "from" {
                from.replace(input.parse()?).is_some()
            } else {
                return Err(Error::new(name.span(), EXPECTED));
            };
            if twice {
                return Err(Error::new(name.span(), format!("`{name}` is given twice")));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        match version {
            Some(version) => Ok(Self { version, from }),
            None => Err(Error::new(Span::call_site(), EXPECTED)),
        }
    }
}

const EXPECTED: &str = "say `version = 2, from = OlderForm`, or `version = 1` alone";

/// Puts serde's derives before `item`, and with a version makes a form of it.
pub(crate) fn expand(form: Option<&Form>, item: &Item) -> Result<TokenStream> {
    let (name, generics) = match item {
        Item::Struct(item) => (&item.ident, &item.generics),
        Item::Enum(item) => (&item.ident, &item.generics),
        _ => return Err(Error::new_spanned(item, "#[state] goes on a struct or an enum")),
    };
    let implemented = match form {
        None => None,
        Some(_) if !generics.params.is_empty() => {
            let message = "a form of a state is one concrete type: it can't be generic";
            return Err(Error::new(generics.span(), message));
        }
        Some(form) => Some(form.implement(&syn::parse_quote!(#name))),
    };
    Ok(quote! {
        #[derive(
            ::guest_sdk::__private::serde::Serialize,
            ::guest_sdk::__private::serde::Deserialize,
        )]
        #[serde(crate = "::guest_sdk::__private::serde")]
        #item

        #implemented
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    fn refuse(attribute: TokenStream) -> String {
        Form::parse(attribute).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_form_has_a_version_and_perhaps_an_older_form() {
        let form = Form::parse(quote!(version = 3, from = old::Ledger)).unwrap().unwrap();
        assert_eq!(form.version, 3);
        let from = form.from.unwrap();
        assert_eq!(quote!(#from).to_string(), "old :: Ledger");
        assert!(Form::parse(quote!(version = 1,)).unwrap().unwrap().from.is_none());
        assert!(Form::parse(quote!()).unwrap().is_none());
        assert_eq!(refuse(quote!(from = Old)), EXPECTED);
        assert_eq!(refuse(quote!(versions = 3)), EXPECTED);
        assert_eq!(refuse(quote!(version = 0)), "versions count from 1");
        assert_eq!(refuse(quote!(version = 1, version = 2)), "`version` is given twice");
    }

    #[test]
    fn a_state_without_a_version_is_only_derived() {
        let item = parse_quote! { #[serde(default)] struct Account<T> { left: T } };
        let expanded = expand(None, &item).unwrap().to_string();
        assert!(expanded.contains("serde (default)"), "{expanded}");
        assert!(!expanded.contains("impl"), "{expanded}");
        let form = Form { version: 2, from: None };
        let generic = expand(Some(&form), &item).unwrap_err().to_string();
        assert!(generic.contains("generic"), "{generic}");
    }

    #[test]
    fn an_older_form_is_migrated() {
        let form = Form { version: 2, from: Some(parse_quote!(Old)) };
        let expanded = expand(Some(&form), &parse_quote! { struct New; }).unwrap();
        let migrate = quote!(::guest_sdk::__private::migrate::<Old, Self>(version, 2u32));
        assert!(expanded.to_string().contains(&migrate.to_string()), "{expanded}");
        let error = expand(None, &parse_quote! { fn state() {} }).unwrap_err().to_string();
        assert_eq!(error, "#[state] goes on a struct or an enum");
    }
}
