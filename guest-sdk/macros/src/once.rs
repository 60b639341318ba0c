//! One guest per component, said where the second one stands.
//!
//! Without this the linker's word for it would be that `cabi_post_check` is defined twice. Natively
//! a crate may have as many as its tests need.

use std::sync::Mutex;

/// The guest of the crate that is being compiled, which is one for the life of a compiler.
static FIRST: Mutex<Option<String>> = Mutex::new(None);

/// Notes the guest of this name.
///
/// # Errors
///
/// What is wrong, when there is one already.
pub(crate) fn note(words: impl IntoIterator<Item = String>, guest: &str) -> Result<(), String> {
    if !builds_component(words) {
        return Ok(());
    }
    let mut first = FIRST.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match first.as_deref() {
        None => {
            *first = Some(guest.to_owned());
            Ok(())
        }
        Some(first) => Err(second(first, guest)),
    }
}

fn second(first: &str, guest: &str) -> String {
    match first == guest {
        true => format!(
            "`{guest}` has a `#[guest]` block already: a guest is one block, so put these methods \
             into that"
        ),
        false => format!(
            "this crate has a guest already, `{first}`: a component is one guest, so put \
             `{guest}` into a crate of its own"
        ),
    }
}

/// Reads rustc's command line: whether it builds for wasm. Nothing else that runs macros, as
/// editors do, is for one crate alone.
fn builds_component(words: impl IntoIterator<Item = String>) -> bool {
    let (mut is_compiler, mut is_wasm, mut is_target) = (false, false, false);
    for word in words {
        let target = if is_target { Some(word.as_str()) } else { word.strip_prefix("--target=") };
        is_wasm |= target.is_some_and(|target| target.starts_with("wasm"));
        is_compiler |= word == "--crate-name";
        is_target = word == "--target";
    }
    is_compiler && is_wasm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_guest_is_refused_where_it_would_be_linked() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let native = words("rustc --crate-name a --edition=2024");
        assert_eq!((note(native.clone(), "A"), note(native, "B")), (Ok(()), Ok(())));
        let editor = words("server --target wasm32-wasip2");
        assert_eq!((note(editor.clone(), "A"), note(editor, "B")), (Ok(()), Ok(())));
        let wasm = words("rustc --crate-name a --target wasm32-wasip2");
        assert_eq!(note(wasm, "A"), Ok(()));
        let wasm = words("rustc --crate-name a --target=wasm32-wasip2");
        assert!(note(wasm.clone(), "B").unwrap_err().contains("a guest already, `A`"));
        assert!(note(wasm, "A").unwrap_err().contains("put these methods"));
    }
}
