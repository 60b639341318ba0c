//! Versions of a state: `#[state]`, and the arguments of `#[guest]`.

use std::mem;

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream, Parser as _};
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
        let read = |input: ParseStream<'_>| Arguments::read(input, false);
        read.parse2(attribute).map(|arguments| arguments.form)
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

/// The arguments of `#[guest]`.
pub(crate) struct Arguments {
    /// It reads files with std.
    pub(crate) files: bool,
    pub(crate) form: Option<Form>,
}

impl Arguments {
    /// Reads them, or those of `#[state]`, which has no `files`.
    fn read(input: ParseStream<'_>, takes_files: bool) -> Result<Self> {
        let (mut files, mut version, mut from) = (false, None, None);
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            let twice = if takes_files && name == "files" {
                mem::replace(&mut files, true)
            } else if name == "version" {
                version.replace(read_version(input)?).is_some()
            } else if name == "from" {
                input.parse::<Token![=]>()?;
                from.replace(input.parse::<Type>()?).is_some()
            } else {
                return Err(Error::new(name.span(), unknown(&name, takes_files)));
            };
            if twice {
                return Err(Error::new(name.span(), format!("`{name}` is given twice")));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let form = match (version, from) {
            (Some(version), from) => Some(Form { version, from }),
            (None, None) => None,
            (None, Some(from)) => return Err(Error::new(from.span(), NO_VERSION)),
        };
        Ok(Self { files, form })
    }
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        Self::read(input, true)
    }
}

fn read_version(input: ParseStream<'_>) -> Result<u32> {
    input.parse::<Token![=]>()?;
    let number: LitInt = input.parse()?;
    match number.base10_parse()? {
        0 => Err(Error::new(number.span(), "versions count from 1")),
        version => Ok(version),
    }
}

fn unknown(name: &Ident, takes_files: bool) -> String {
    let files = if takes_files { "`files`, " } else { "" };
    format!(
        "`{name}` is nothing that may stand here; there is {files}`version = 2`, `from = OlderForm`"
    )
}

const NO_VERSION: &str = "say `version = 2, from = OlderForm`: it is newer than that";

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
        assert_eq!(refuse(quote!(from = Old)), NO_VERSION);
        assert_eq!(refuse(quote!(version = 0)), "versions count from 1");
        assert_eq!(refuse(quote!(version = 1, version = 2)), "`version` is given twice");
    }

    #[test]
    fn a_word_that_means_nothing_is_named_beside_those_that_do() {
        let read = |attribute: TokenStream| syn::parse2::<Arguments>(attribute);
        let refuse = |attribute| read(attribute).map(|_| ()).unwrap_err().to_string();
        for attribute in [quote!(versoin = 2), quote!(files, versoin = 2), quote!(versoin)] {
            let error = refuse(attribute);
            assert!(error.starts_with("`versoin` is nothing"), "{error}");
            assert!(error.contains("there is `files`, `version = 2`, `from"), "{error}");
        }
        let state = Form::parse(quote!(files)).map(|_| ()).unwrap_err().to_string();
        assert!(state.contains("`files` is nothing") && state.contains("is `version"), "{state}");
        for attribute in [quote!(files, version = 2, from = Old), quote!(version = 2, files)] {
            let arguments = read(attribute).unwrap();
            assert!(arguments.files && arguments.form.is_some_and(|form| form.version == 2));
        }
        let neither = read(quote!()).unwrap();
        assert!(!neither.files && neither.form.is_none());
        assert_eq!(refuse(quote!(files, files)), "`files` is given twice");
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
