//! What `#[guest]` writes: the block as it was, an implementation of the SDK's `Guest` trait, and
//! the component's exports (which the SDK's `__export!` leaves out except on wasm).

use proc_macro2::{Group, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::Type;
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;

use crate::form::Arguments;
use crate::program::{Answer, Argument, Contract, Hook, Program};

/// Writes everything that a guest becomes.
pub(crate) fn program(program: &Program, arguments: &Arguments) -> TokenStream {
    let block = &program.block;
    let guest = &*block.self_ty;
    let contracts = program.contracts.iter().map(description);
    let calls =
        program.contracts.iter().zip(0_u32..).map(|(contract, index)| call(guest, contract, index));
    let init = init(guest, program.init.as_ref());
    let recover = program.recover.as_ref().map(recover);
    let on_restore = program.on_restore.as_ref().map(on_restore);
    let check = program.check.as_ref().map(check);
    let implemented = arguments.form.as_ref().map(|form| form.implement(guest));
    let files = arguments.files;
    let carried = carried(guest);
    let on_stale = program.on_stale.as_ref().map(on_stale);
    let shutdown = program.shutdown.as_ref().map(shutdown);
    let has_on_stale = on_stale.is_some();
    let has_shutdown = shutdown.is_some();
    let has_recover = recover.is_some();
    let has_on_restore = on_restore.is_some();
    quote! {
        #block

        #[automatically_derived]
        impl ::guest_sdk::__private::Guest for #guest {
            const CONTRACTS: &'static [::guest_sdk::__private::Contract] = &[#(#contracts),*];

            const HOOKS: ::guest_sdk::__private::Hooks = ::guest_sdk::__private::Hooks {
                recover: #has_recover,
                on_restore: #has_on_restore,
                on_stale: #has_on_stale,
                shutdown: #has_shutdown,
                files: #files,
            };

            #init

            fn call(
                &mut self,
                contract: u32,
                arguments: &[u8],
                reply: &mut ::std::vec::Vec<u8>,
            ) -> ::core::result::Result<(), ::guest_sdk::__private::CallError> {
                match contract {
                    #(#calls)*
                    _ => ::core::result::Result::Err(
                        ::guest_sdk::__private::CallError::UnknownContract,
                    ),
                }
            }

            #recover

            #on_restore

            #carried

            #check

            #on_stale

            #shutdown
        }

        #implemented

        ::guest_sdk::__export!(#guest);
    }
}

/// One entry of the table that `describe` answers from.
fn description(contract: &Contract) -> TokenStream {
    let name = contract.name.unraw().to_string();
    let documentation = &contract.documentation;
    let read_only = contract.read_only;
    let needs = &contract.needs;
    let arguments = contract.arguments.iter().map(|argument| {
        let Argument { name, ty, required } = argument;
        let name = name.unraw().to_string();
        let schema = quote_spanned!(ty.span()=> ::guest_sdk::__private::argument_schema::<#ty>);
        quote! {
            ::guest_sdk::__private::Argument { name: #name, required: #required, schema: #schema }
        }
    });
    let result = match &contract.answer {
        Answer::Unit => quote!(()),
        Answer::Plain(ty) => quote!(#ty),
        Answer::Fallible(ty) => quote!(<#ty as ::guest_sdk::__private::Fallible>::Value),
    };
    let span = result.span();
    let result = quote_spanned!(span=> ::guest_sdk::__private::result_schema::<#result>);
    quote! {
        ::guest_sdk::__private::Contract {
            name: #name,
            documentation: #documentation,
            read_only: #read_only,
            needs: &[#(#needs),*],
            arguments: &[#(#arguments),*],
            result: #result,
        }
    }
}

/// One arm of the dispatch: decode, call, encode.
fn call(guest: &Type, contract: &Contract, index: u32) -> TokenStream {
    let method = &contract.name;
    let names: Vec<_> = contract.arguments.iter().map(|argument| &argument.name).collect();
    let fields = contract.arguments.iter().map(|argument| {
        let Argument { name, ty, required } = argument;
        // The struct has a `Self` of its own.
        let ty = replace_self(ty.to_token_stream(), guest);
        let default = (!required).then(|| quote!(#[serde(default)]));
        quote!(#default #name: #ty)
    });
    let encode = match &contract.answer {
        Answer::Unit => quote!({
            answer;
            ::guest_sdk::__private::encode_reply(&(), reply)
        }),
        Answer::Plain(ty) => {
            quote_spanned!(ty.span()=> ::guest_sdk::__private::encode_reply(&answer, reply))
        }
        Answer::Fallible(ty) => quote_spanned! {ty.span()=>
            match answer {
                ::core::result::Result::Ok(value) => {
                    ::guest_sdk::__private::encode_reply(&value, reply)
                }
                ::core::result::Result::Err(error) => ::core::result::Result::Err(
                    ::guest_sdk::__private::CallError::Rejected(::core::convert::Into::into(error)),
                ),
            }
        },
    };
    let expecting = expecting(contract);
    let called = method.unraw().to_string();
    let texts = names.iter().map(|name| name.unraw().to_string());
    quote! {
        #index => {
            #[derive(::guest_sdk::__private::serde::Deserialize)]
            #[serde(
                crate = "::guest_sdk::__private::serde",
                deny_unknown_fields,
                expecting = #expecting
            )]
            struct Arguments { #(#fields),* }
            let arguments: Arguments =
                ::guest_sdk::__private::decode_arguments(#called, &[#(#texts),*], arguments)?;
            let answer = Self::#method(self #(, arguments.#names)*);
            #encode
        }
    }
}

/// What the error says that a caller gets whose arguments have the wrong shape.
fn expecting(contract: &Contract) -> String {
    let names: Vec<_> =
        contract.arguments.iter().map(|argument| argument.name.unraw().to_string()).collect();
    let name = contract.name.unraw();
    if names.is_empty() {
        format!("no arguments for {name}")
    } else {
        format!("{name}({})", names.join(", "))
    }
}

fn init(guest: &Type, hook: Option<&Hook>) -> TokenStream {
    let body = match hook {
        None => {
            let default =
                quote_spanned!(guest.span()=> <#guest as ::core::default::Default>::default());
            quote! {
                let _ = parameters;
                ::core::result::Result::Ok(#default)
            }
        }
        Some(hook) => {
            let method = &hook.name;
            let made = if hook.arguments_count == 0 {
                quote!({
                    let _ = parameters;
                    Self::#method()
                })
            } else {
                quote!(Self::#method(::guest_sdk::__private::decode_parameters(parameters)?))
            };
            answer_as_result(&hook.answer, &made)
        }
    };
    quote! {
        fn init(parameters: &[u8]) -> ::core::result::Result<Self, ::guest_sdk::Rejection> { #body }
    }
}

fn recover(hook: &Hook) -> TokenStream {
    let method = &hook.name;
    let body = answer_as_result(&hook.answer, &quote!(Self::#method(self, report)));
    quote! {
        fn recover(
            &mut self,
            report: ::guest_sdk::CrashReport,
        ) -> ::core::result::Result<::guest_sdk::Recovery, ::guest_sdk::Rejection> {
            #body
        }
    }
}

fn on_restore(hook: &Hook) -> TokenStream {
    let method = &hook.name;
    quote! {
        fn on_restore(&mut self, generation: u64) { Self::#method(self, generation); }
    }
}

/// How the state is handed over: by its own form, by serde alone, or not at all. Which of the three
/// traits answers is decided by how often the probe must be borrowed for it.
fn carried(guest: &Type) -> TokenStream {
    let probe = quote! {
        use ::guest_sdk::__private::{ByForm as _, BySerde as _, NotAtAll as _};
        let probe = ::guest_sdk::__private::Probe::<#guest>::NEW;
    };
    quote! {
        fn upgrade() -> ::core::option::Option<u32> {
            #probe
            (&&&probe).version()
        }

        fn save(&self) -> ::core::result::Result<(), ::guest_sdk::Rejection> {
            #probe
            (&&&probe).save(self)
        }

        fn load(version: u32) -> ::core::result::Result<Self, ::guest_sdk::Rejection> {
            #probe
            (&&&probe).load(version)
        }
    }
}

fn check(hook: &Hook) -> TokenStream {
    let method = &hook.name;
    let body = answer_as_result(&hook.answer, &quote!(Self::#method(self)));
    quote! {
        fn check(&self) -> ::core::result::Result<(), ::guest_sdk::Rejection> { #body }
    }
}

fn on_stale(hook: &Hook) -> TokenStream {
    let method = &hook.name;
    let body = answer_as_result(&hook.answer, &quote!(Self::#method(self, stale)));
    quote! {
        fn on_stale(
            &self,
            stale: ::guest_sdk::Stale,
        ) -> ::core::result::Result<::guest_sdk::Fallback, ::guest_sdk::Rejection> {
            #body
        }
    }
}

fn shutdown(hook: &Hook) -> TokenStream {
    let method = &hook.name;
    let body = answer_as_result(&hook.answer, &quote!(Self::#method(self)));
    quote! {
        fn shutdown(&mut self) -> ::core::result::Result<(), ::guest_sdk::Rejection> { #body }
    }
}

/// Makes a `Result` with `Rejection` of what a hook answers.
fn answer_as_result(answer: &Answer, call: &TokenStream) -> TokenStream {
    match answer {
        Answer::Fallible(_) => quote!((#call).map_err(::core::convert::Into::into)),
        Answer::Unit | Answer::Plain(_) => quote!(::core::result::Result::Ok(#call)),
    }
}

/// Writes the guest's name for each `Self` in `tokens`.
fn replace_self(tokens: TokenStream, guest: &Type) -> TokenStream {
    tokens
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Ident(name) if name == "Self" => guest.to_token_stream(),
            TokenTree::Group(group) => {
                let inner = replace_self(group.stream(), guest);
                let mut replaced = Group::new(group.delimiter(), inner);
                replaced.set_span(group.span());
                TokenTree::Group(replaced).into()
            }
            other => other.into(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::{ItemImpl, parse_quote};

    fn expand(block: ItemImpl) -> String {
        let expanded = {
            let arguments = Arguments { files: false, form: None };
            super::program(&Program::parse(block).unwrap(), &arguments)
        };
        syn::parse2::<syn::File>(expanded.clone()).unwrap();
        expanded.to_string()
    }

    #[track_caller]
    fn assert_has(expanded: &str, part: &TokenStream) {
        assert!(expanded.contains(&part.to_string()), "{expanded}\nlacks\n{part}");
    }

    #[test]
    fn contracts_are_dispatched_by_their_place() {
        let expanded = expand(parse_quote! {
            impl Counter {
                pub fn value(&self) -> u64 { self.value }
                pub fn increment(&mut self, by: u64) -> Result<u64, Rejection> { todo!() }
            }
        });
        assert_has(&expanded, &quote!(Self::increment(self, arguments.by)));
        assert_has(&expanded, &quote!(expecting = "increment(by)"));
        let (first, second) =
            (expanded.find("0u32 =>").unwrap(), expanded.find("1u32 =>").unwrap());
        assert!(first < second);
    }

    #[test]
    fn a_guest_without_init_is_made_by_default() {
        let expanded = expand(parse_quote! { impl Counter { pub fn value(&self) -> u64 { 0 } } });
        assert_has(&expanded, &quote!(<Counter as ::core::default::Default>::default()));
        assert!(!expanded.contains("fn recover"));
        assert!(!expanded.contains("fn on_restore"));
    }

    #[test]
    fn arguments_may_name_the_guest_by_self() {
        let expanded = expand(parse_quote! {
            impl Counter { pub fn merge(&mut self, others: Vec<(u64, Self)>) {} }
        });
        assert_has(&expanded, &quote!({ others: Vec<(u64, Counter)> }));
    }

    #[test]
    fn raw_names_lose_their_prefix() {
        let expanded =
            expand(parse_quote! { impl Counter { pub fn r#match(&self, r#type: u64) {} } });
        assert_has(&expanded, &quote!(name: "match"));
        assert_has(&expanded, &quote!(name: "type"));
    }
}
