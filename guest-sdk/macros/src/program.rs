//! What `#[guest]` reads: an `impl` block in, a [`Program`] or an error at the offending token out.
//!
//! Nothing is generated here, so every rule of what a guest may look like is in this file and can
//! be tested on its own.

use std::ops::RangeInclusive;

use proc_macro2::TokenStream;
use syn::ext::IdentExt as _;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{
    Attribute, Error, Expr, ExprLit, FnArg, GenericArgument, Ident, ImplItem, ImplItemFn, ItemImpl,
    Lit, LitStr, Meta, Pat, PathArguments, Receiver, Result, ReturnType, Signature, Token, Type,
    Visibility,
};

use crate::names;

/// A guest as its author wrote it.
pub(crate) struct Program {
    /// The block, without the SDK's own attributes.
    pub(crate) block: ItemImpl,
    pub(crate) contracts: Vec<Contract>,
    pub(crate) init: Option<Hook>,
    pub(crate) recover: Option<Hook>,
    pub(crate) on_restore: Option<Hook>,
    pub(crate) check: Option<Hook>,
    pub(crate) on_stale: Option<Hook>,
    pub(crate) shutdown: Option<Hook>,
}

/// A method that callers outside can reach.
pub(crate) struct Contract {
    pub(crate) name: Ident,
    pub(crate) documentation: String,
    pub(crate) read_only: bool,
    /// Names of resources.
    pub(crate) needs: Vec<LitStr>,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) answer: Answer,
}

pub(crate) struct Argument {
    pub(crate) name: Ident,
    pub(crate) ty: Type,
    /// False for those written as `Option<..>`.
    pub(crate) required: bool,
}

/// A function that the host calls at a turn of the guest's life.
pub(crate) struct Hook {
    pub(crate) name: Ident,
    /// How many arguments it takes after `self`.
    pub(crate) arguments_count: usize,
    pub(crate) answer: Answer,
}

/// What a function returns, as far as its signature tells.
pub(crate) enum Answer {
    Unit,
    Plain(Type),
    /// A type by the name of `Result`.
    Fallible(Type),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum HookKind {
    Init,
    Recover,
    OnRestore,
    Check,
    OnStale,
    Shutdown,
}

impl Program {
    /// Reads the block.
    ///
    /// # Errors
    ///
    /// The first thing in it that a guest can't have, at its span.
    pub(crate) fn parse(mut block: ItemImpl) -> Result<Self> {
        check_block(&block)?;
        let mut contracts = Vec::new();
        let mut init = None;
        let mut recover = None;
        let mut on_restore = None;
        let mut check = None;
        let mut on_stale = None;
        let mut shutdown = None;
        for item in &mut block.items {
            let ImplItem::Fn(function) = item else {
                continue;
            };
            let needs = take_needs(function)?;
            let hook = take_hook_attribute(function)?;
            let is_contract = hook.is_none() && matches!(function.vis, Visibility::Public(_));
            if let Some(need) = needs.first().filter(|_| !is_contract) {
                return Err(Error::new(need.span(), "only a contract needs resources"));
            }
            match hook {
                Some(HookKind::Init) => fill(&mut init, Hook::init(function)?, function)?,
                Some(HookKind::Recover) => fill(&mut recover, Hook::recover(function)?, function)?,
                Some(HookKind::OnRestore) => {
                    fill(&mut on_restore, Hook::on_restore(function)?, function)?;
                }
                Some(HookKind::Check) => fill(&mut check, Hook::check(function)?, function)?,
                Some(HookKind::OnStale) => {
                    fill(&mut on_stale, Hook::on_stale(function)?, function)?;
                }
                Some(HookKind::Shutdown) => {
                    fill(&mut shutdown, Hook::shutdown(function)?, function)?;
                }
                None if is_contract => {
                    let contract = Contract::parse(function, needs)?;
                    check_place(&contract, &contracts)?;
                    contracts.push(contract);
                }
                None => {}
            }
        }
        if contracts.is_empty() {
            let message =
                "a guest needs at least one contract: a `pub fn` with `&mut self` or `&self`";
            return Err(Error::new(block.self_ty.span(), message));
        }
        Ok(Self { block, contracts, init, recover, on_restore, check, on_stale, shutdown })
    }
}

impl Contract {
    fn parse(function: &ImplItemFn, needs: Vec<LitStr>) -> Result<Self> {
        let signature = &function.sig;
        check_plain_function(function, "a contract")?;
        let Some(receiver) = signature.receiver() else {
            let message = "a contract takes `&mut self` or `&self`; make this function private, or \
                           `pub(crate)`, where it is none";
            return Err(Error::new(signature.ident.span(), message));
        };
        let read_only = check_receiver(receiver)? == Access::Read;
        let arguments: Vec<_> =
            typed_arguments(signature).map(Argument::parse).collect::<Result<_>>()?;
        check_name(&signature.ident)?;
        if let Some(one_more) = arguments.get(names::ARGUMENTS_MAX) {
            let message = format!("a contract has at most {} arguments", names::ARGUMENTS_MAX);
            return Err(Error::new(one_more.name.span(), message));
        }
        let mut seen: Vec<String> = Vec::new();
        for Argument { name, .. } in &arguments {
            check_name(name)?;
            let text = name.unraw().to_string();
            if seen.contains(&text) {
                return Err(Error::new(name.span(), format!("there are two arguments `{text}`")));
            }
            seen.push(text);
        }
        check_needs(&needs)?;
        let answer = Answer::parse(&signature.output)?;
        let documentation = documentation(&function.attrs);
        let name = signature.ident.clone();
        Ok(Self { name, documentation, read_only, needs, arguments, answer })
    }
}

impl Argument {
    fn parse(argument: &syn::PatType) -> Result<Self> {
        let name = match &*argument.pat {
            Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => {
                pattern.ident.clone()
            }
            other => {
                let message = "an argument of a contract needs a name, for callers to bind it by";
                return Err(Error::new(other.span(), message));
            }
        };
        check_owned(&argument.ty)?;
        check_keys(&argument.ty)?;
        let required = last_segment(&argument.ty).is_none_or(|segment| segment.ident != "Option");
        Ok(Self { name, ty: (*argument.ty).clone(), required })
    }
}

impl Hook {
    fn init(function: &ImplItemFn) -> Result<Self> {
        check_plain_function(function, "#[init]")?;
        if let Some(receiver) = function.sig.receiver() {
            return Err(Error::new(
                receiver.span(),
                "#[init] makes the state, so it takes no `self`",
            ));
        }
        let expected = "#[init] takes the parameters, or nothing, and returns `Self` or \
                        `Result<Self, Rejection>`";
        Self::parse(function, 0..=1, expected)?.with_answer(expected)
    }

    fn recover(function: &ImplItemFn) -> Result<Self> {
        let expected = "#[recover] is `fn(&mut self, report: CrashReport) -> Recovery`, or \
                        `-> Result<Recovery, Rejection>`";
        check_plain_function(function, "#[recover]")?;
        check_hook_receiver(function, Access::Write, expected)?;
        Self::parse(function, 1..=1, expected)?.with_answer(expected)
    }

    fn on_restore(function: &ImplItemFn) -> Result<Self> {
        let expected = "#[on_restore] is `fn(&mut self, generation: u64)`";
        check_plain_function(function, "#[on_restore]")?;
        check_hook_receiver(function, Access::Write, expected)?;
        let hook = Self::parse(function, 1..=1, expected)?;
        match hook.answer {
            Answer::Unit => Ok(hook),
            Answer::Plain(ty) | Answer::Fallible(ty) => Err(Error::new(ty.span(), expected)),
        }
    }

    fn check(function: &ImplItemFn) -> Result<Self> {
        let expected = "#[check] is `fn(&self) -> Result<(), Rejection>`";
        check_plain_function(function, "#[check]")?;
        check_hook_receiver(function, Access::Read, expected)?;
        let hook = Self::parse(function, 0..=0, expected)?;
        match hook.answer {
            Answer::Fallible(_) => Ok(hook),
            Answer::Unit | Answer::Plain(_) => Err(Error::new(hook.name.span(), expected)),
        }
    }

    fn on_stale(function: &ImplItemFn) -> Result<Self> {
        let expected = "#[on_stale] is `fn(&self, stale: Stale) -> Result<Fallback, Rejection>`";
        check_plain_function(function, "#[on_stale]")?;
        check_hook_receiver(function, Access::Read, expected)?;
        let hook = Self::parse(function, 1..=1, expected)?;
        match hook.answer {
            Answer::Fallible(_) => Ok(hook),
            Answer::Unit | Answer::Plain(_) => Err(Error::new(hook.name.span(), expected)),
        }
    }

    fn shutdown(function: &ImplItemFn) -> Result<Self> {
        let expected = "#[shutdown] is `fn(&mut self)`, or `-> Result<(), Rejection>`";
        check_plain_function(function, "#[shutdown]")?;
        check_hook_receiver(function, Access::Write, expected)?;
        let hook = Self::parse(function, 0..=0, expected)?;
        match hook.answer {
            Answer::Unit | Answer::Fallible(_) => Ok(hook),
            Answer::Plain(ty) => Err(Error::new(ty.span(), expected)),
        }
    }

    fn parse(function: &ImplItemFn, counts: RangeInclusive<usize>, expected: &str) -> Result<Self> {
        let signature = &function.sig;
        let arguments =
            typed_arguments(signature).map(Argument::parse).collect::<Result<Vec<_>>>()?;
        if !counts.contains(&arguments.len()) {
            return Err(Error::new(signature.ident.span(), expected));
        }
        let answer = Answer::parse(&signature.output)?;
        Ok(Self { name: signature.ident.clone(), arguments_count: arguments.len(), answer })
    }

    fn with_answer(self, expected: &str) -> Result<Self> {
        match self.answer {
            Answer::Unit => Err(Error::new(self.name.span(), expected)),
            Answer::Plain(_) | Answer::Fallible(_) => Ok(self),
        }
    }
}

impl Answer {
    fn parse(output: &ReturnType) -> Result<Self> {
        let ReturnType::Type(_, ty) = output else {
            return Ok(Self::Unit);
        };
        check_owned(ty)?;
        check_keys(ty)?;
        let fallible = last_segment(ty).is_some_and(|segment| segment.ident == "Result");
        Ok(if fallible { Self::Fallible((**ty).clone()) } else { Self::Plain((**ty).clone()) })
    }
}

/// Refuses arguments of an attribute that has none.
pub(crate) fn no_arguments(attribute: TokenStream, name: &str) -> Result<()> {
    if attribute.is_empty() {
        return Ok(());
    }
    Err(Error::new_spanned(attribute, format!("{name} takes no arguments")))
}

/// Refuses a name that the host would.
fn check_name(name: &Ident) -> Result<()> {
    names::check(&name.unraw().to_string()).map_err(|error| Error::new(name.span(), error))
}

fn check_needs(needs: &[LitStr]) -> Result<()> {
    if let Some(one_more) = needs.get(names::NEEDS_MAX) {
        let message = format!("a contract needs at most {} resources", names::NEEDS_MAX);
        return Err(Error::new(one_more.span(), message));
    }
    let check = |name: &LitStr| {
        names::check_resource(&name.value()).map_err(|error| Error::new(name.span(), error))
    };
    needs.iter().try_for_each(check)
}

/// Refuses a contract whose name another one has, or for which there is no room.
fn check_place(contract: &Contract, others: &[Contract]) -> Result<()> {
    let name = contract.name.unraw();
    if others.iter().any(|other| other.name.unraw() == name) {
        let message = format!("there are two contracts `{name}`");
        return Err(Error::new(contract.name.span(), message));
    }
    if others.len() >= names::CONTRACTS_MAX {
        let message = format!("a guest has at most {} contracts", names::CONTRACTS_MAX);
        return Err(Error::new(contract.name.span(), message));
    }
    Ok(())
}

fn check_block(block: &ItemImpl) -> Result<()> {
    if let Some((_, path, _)) = &block.trait_ {
        let message = "#[guest] goes on the type's own `impl` block, not on that of a trait";
        return Err(Error::new(path.span(), message));
    }
    if !block.generics.params.is_empty() {
        let message = "a guest is one concrete type: it can't be generic";
        return Err(Error::new(block.generics.span(), message));
    }
    match last_segment(&block.self_ty) {
        Some(segment) => match &segment.arguments {
            PathArguments::None | PathArguments::AngleBracketed(_) => Ok(()),
            PathArguments::Parenthesized(list) => {
                Err(Error::new(list.span(), "a guest is a struct or an enum"))
            }
        },
        None => Err(Error::new(block.self_ty.span(), "a guest is a struct or an enum")),
    }
}

/// Removes and names the hook attribute of a function.
fn take_hook_attribute(function: &mut ImplItemFn) -> Result<Option<HookKind>> {
    let mut found = None;
    let mut kept = Vec::with_capacity(function.attrs.len());
    for attribute in std::mem::take(&mut function.attrs) {
        let kind = match attribute.path().get_ident() {
            Some(name) if name == "init" => HookKind::Init,
            Some(name) if name == "recover" => HookKind::Recover,
            Some(name) if name == "on_restore" => HookKind::OnRestore,
            Some(name) if name == "check" => HookKind::Check,
            Some(name) if name == "on_stale" => HookKind::OnStale,
            Some(name) if name == "shutdown" => HookKind::Shutdown,
            _ => {
                kept.push(attribute);
                continue;
            }
        };
        if !matches!(attribute.meta, Meta::Path(_)) {
            return Err(Error::new(attribute.span(), "this attribute takes no arguments"));
        }
        if found.replace(kind).is_some() {
            return Err(Error::new(attribute.span(), "a function is one hook only"));
        }
    }
    function.attrs = kept;
    Ok(found)
}

/// Removes `#[needs("a", "b")]`, and answers the names in it.
fn take_needs(function: &mut ImplItemFn) -> Result<Vec<LitStr>> {
    let mut needs = Vec::new();
    for attribute in function.attrs.extract_if(.., |found| found.path().is_ident("needs")) {
        let names = Punctuated::<LitStr, Token![,]>::parse_terminated;
        let found = attribute.parse_args_with(names)?;
        if found.is_empty() {
            let message = "#[needs(\"cache\")] names the resources that the contract needs";
            return Err(Error::new(attribute.span(), message));
        }
        needs.extend(found);
    }
    Ok(needs)
}

fn fill(place: &mut Option<Hook>, hook: Hook, function: &ImplItemFn) -> Result<()> {
    if let Some(first) = place {
        let message = format!("a guest has one hook of a kind; the other one is `{}`", first.name);
        return Err(Error::new(function.sig.ident.span(), message));
    }
    *place = Some(hook);
    Ok(())
}

/// Refuses what can't be called with decoded values from one fixed place.
fn check_plain_function(function: &ImplItemFn, what: &str) -> Result<()> {
    let signature = &function.sig;
    if let Some(token) = &signature.asyncness {
        let message = format!("{what} can't be async: a transaction runs to its end in one go");
        return Err(Error::new(token.span(), message));
    }
    if !signature.generics.params.is_empty() {
        let message = format!("{what} can't be generic: its callers bring values, not types");
        return Err(Error::new(signature.generics.span(), message));
    }
    if let Some(token) = &signature.unsafety {
        return Err(Error::new(token.span(), format!("{what} can't be unsafe")));
    }
    if let Some(token) = &signature.abi {
        return Err(Error::new(token.span(), format!("{what} is an ordinary Rust function")));
    }
    let conditional = |attribute: &&Attribute| {
        attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr")
    };
    if let Some(attribute) = function.attrs.iter().find(conditional) {
        let message =
            format!("{what} can't be conditional; put the condition inside, or on the block");
        return Err(Error::new(attribute.span(), message));
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    Read,
    Write,
}

fn check_receiver(receiver: &Receiver) -> Result<Access> {
    if receiver.reference.is_none() || receiver.colon_token.is_some() {
        let message = "a contract borrows its state: `&mut self` to change it, `&self` to read it";
        return Err(Error::new(receiver.span(), message));
    }
    Ok(if receiver.mutability.is_some() { Access::Write } else { Access::Read })
}

fn check_hook_receiver(function: &ImplItemFn, access: Access, expected: &str) -> Result<()> {
    match function.sig.receiver() {
        Some(receiver) if check_receiver(receiver)? == access => Ok(()),
        Some(receiver) => Err(Error::new(receiver.span(), expected)),
        None => Err(Error::new(function.sig.ident.span(), expected)),
    }
}

/// Refuses borrowed and nameless types where they are easily seen; the compiler finds the others.
fn check_owned(ty: &Type) -> Result<()> {
    match ty {
        Type::Reference(_) => {
            let message =
                "values of a contract are owned: say `String` for `&str`, `Vec<T>` for `&[T]`";
            Err(Error::new(ty.span(), message))
        }
        Type::ImplTrait(_) => {
            Err(Error::new(ty.span(), "values of a contract have a type by name, not `impl Trait`"))
        }
        Type::Path(_) => match last_segment(ty).map(|segment| &segment.arguments) {
            Some(PathArguments::AngleBracketed(list)) => {
                for argument in &list.args {
                    if let GenericArgument::Type(inner) = argument {
                        check_owned(inner)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Refuses maps, also in other types, with keys that JSON has no names for, where they are easily
/// seen.
pub(crate) fn check_keys(ty: &Type) -> Result<()> {
    if let Type::Tuple(tuple) = ty {
        return tuple.elems.iter().try_for_each(check_keys);
    }
    let Some(segment) = last_segment(ty) else { return Ok(()) };
    let PathArguments::AngleBracketed(list) = &segment.arguments else { return Ok(()) };
    let mut types = list.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    let is_map = ["BTreeMap", "HashMap", "IndexMap"].iter().any(|map| segment.ident == map);
    if let Some(key) = types.clone().next().filter(|key| is_map && !is_name(key)) {
        let message = "in JSON the keys of a map are text, so they can be text, numbers, `bool`, \
                       `char` or an enum without fields; make a list of pairs of it";
        return Err(Error::new(key.span(), message));
    }
    types.try_for_each(check_keys)
}

/// False for keys that are seen to be more than one value.
fn is_name(key: &Type) -> bool {
    const COMPOUND: [&str; 7] =
        ["Vec", "Option", "BTreeMap", "BTreeSet", "HashMap", "HashSet", "VecDeque"];
    match key {
        Type::Tuple(_) | Type::Array(_) | Type::Slice(_) => false,
        _ => last_segment(key).is_none_or(|key| COMPOUND.iter().all(|name| key.ident != name)),
    }
}

fn last_segment(ty: &Type) -> Option<&syn::PathSegment> {
    match ty {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last(),
        Type::Group(group) => last_segment(&group.elem),
        Type::Paren(paren) => last_segment(&paren.elem),
        _ => None,
    }
}

fn typed_arguments(signature: &Signature) -> impl Iterator<Item = &syn::PatType> {
    signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(argument) => Some(argument),
        FnArg::Receiver(_) => None,
    })
}

/// The doc comment as text, without the blank that follows each `///`.
fn documentation(attributes: &[Attribute]) -> String {
    let mut lines = Vec::new();
    for attribute in attributes {
        if let Meta::NameValue(meta) = &attribute.meta
            && meta.path.is_ident("doc")
            && let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &meta.value
        {
            let text = text.value();
            lines.push(text.strip_prefix(' ').map_or_else(|| text.clone(), str::to_owned));
        }
    }
    lines.join("\n").trim().to_owned()
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
