//! `host new`: a guest crate from the SDK's template.

use std::fs;
use std::path::{Component, Path, PathBuf};

use clap::Args;
use toml::de::DeTable;

use super::{eprint, print, print_fault};
use crate::base::error::{Code, Fault};
use crate::shell::exit;

/// The files of a new guest crate.
const TEMPLATE: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("../../../../guest-sdk/template/Cargo.toml")),
    ("README.md", include_str!("../../../../guest-sdk/template/README.md")),
    (".gitignore", include_str!("../../../../guest-sdk/template/.gitignore")),
    ("src/lib.rs", include_str!("../../../../guest-sdk/template/src/lib.rs")),
];

/// The SDK of the checkout that this program was built from.
const SDK_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest-sdk");

/// The package that a guest depends on.
const SDK: &str = "guest-sdk";

#[derive(Args, Debug)]
pub(super) struct NewArgs {
    /// The crate's name, and its folder's
    name: String,
    /// The SDK's folder, or the one around it [default: the one this host was built beside]
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

pub(super) fn new(args: &NewArgs) -> u8 {
    if let Err(message) = check_name(&args.name) {
        eprint(&format!("error: {message}"));
        return exit::USAGE;
    }
    match write(args) {
        Ok(()) => {
            let name = &args.name;
            print(&format!(
                "made {name}/, a guest crate with a test\n  cd {name} && cargo test && host build\n  \
                 host run guests/{name}.wasm"
            ));
            exit::DONE
        }
        Err(fault) => {
            print_fault(&fault);
            exit::FAILED
        }
    }
}

/// Rust crate names, less what can't be a daemon's name.
fn check_name(name: &str) -> Result<(), String> {
    let usable = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
        && name.starts_with(|first: char| first.is_ascii_lowercase());
    if !usable {
        let rule = "1 to 64 of a-z, 0-9, - and _, and a letter first";
        return Err(format!("`{name}` can't be a guest's name: {rule}"));
    }
    if ["test", "core", "std", "alloc", "guest-sdk", "guest_sdk"].contains(&name) {
        return Err(format!("`{name}` is the name of another crate; choose another"));
    }
    Ok(())
}

fn write(args: &NewArgs) -> Result<(), Fault> {
    let dir = Path::new(&args.name);
    let failed = |path: &Path, error: std::io::Error| {
        Fault::new(Code::File, format!("{}: {error}", path.display()))
    };
    let sdk = find_sdk(args.sdk.as_deref().unwrap_or(Path::new(SDK_PATH)))?;
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let here = here.map_err(|error| failed(Path::new("."), error))?;
    let sdk = toml_string(&from_to(&here.join(dir), &sdk).to_string_lossy());
    fs::create_dir(dir).map_err(|error| failed(dir, error))?;
    for (file, text) in TEMPLATE {
        let path = dir.join(file);
        let text =
            text.replace("{{name}}", &args.name).replace("{{guest_sdk}}", &format!("path = {sdk}"));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
        }
        fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// The SDK's folder: this one, or the one in it.
fn find_sdk(folder: &Path) -> Result<PathBuf, Fault> {
    let wrong = |what: &str| {
        let hint = "give the folder of the package `guest-sdk` with --sdk";
        Fault::new(Code::File, format!("{}: {what}; {hint}", folder.display()))
    };
    let whole = folder.canonicalize().map_err(|error| wrong(&error.to_string()))?;
    let mut folders = [whole.join(SDK), whole].into_iter().rev();
    folders.find(|folder| is_sdk(folder)).ok_or_else(|| wrong("the SDK is not there"))
}

/// Whether a folder has the package of the SDK, and not a workspace or another package.
fn is_sdk(folder: &Path) -> bool {
    let Ok(text) = fs::read_to_string(folder.join("Cargo.toml")) else { return false };
    let Ok(manifest) = DeTable::parse(&text) else { return false };
    let package =
        manifest.get_ref().get("package").and_then(|package| package.get_ref().get("name"));
    package.and_then(|name| name.get_ref().as_str()) == Some(SDK)
}

/// The way from one folder to another, both absolute: relative, so that what holds both can be
/// moved, unless they have nothing in common.
fn from_to(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(one, other)| one == other);
    let common = common.count();
    // The root alone is common to all.
    if common < 2 {
        return to.to_owned();
    }
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

fn toml_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_crates_and_daemons() {
        for good in ["ledger", "my-guest", "a2_b"] {
            assert_eq!(check_name(good), Ok(()));
        }
        for bad in ["", "2a", "-a", "Ledger", "a/b", "a b", "core", "\u{e9}"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_way_to_the_sdk_is_relative_where_that_survives_a_move() {
        for (from, to, way) in [
            ("/home/ann/src/ledger", "/home/ann/bulkhead/guest-sdk", "../../bulkhead/guest-sdk"),
            ("/home/ann/bulkhead/ledger", "/home/ann/bulkhead/guest-sdk", "../guest-sdk"),
            ("/home/ann/ledger", "/opt/bulkhead/guest-sdk", "/opt/bulkhead/guest-sdk"),
            ("/work/guest-sdk/ledger", "/work/guest-sdk", ".."),
        ] {
            assert_eq!(from_to(Path::new(from), Path::new(to)), Path::new(way), "{from} {to}");
        }
    }

    #[test]
    fn the_template_has_no_other_placeholders() {
        for (file, text) in TEMPLATE {
            let filled = text.replace("{{name}}", "").replace("{{guest_sdk}}", "");
            assert!(!filled.contains("{{"), "{file}");
        }
    }
}
