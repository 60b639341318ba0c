//! `host build`: guest crates to components in `guests/*.wasm`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::Value;

use super::{eprint, print, print_fault};
use crate::base::error::{Code, Fault};
use crate::pure::size::show_bytes;
use crate::shell::exit;

/// The target that guests are built for.
const TARGET: &str = "wasm32-wasip2";

#[derive(Args, Debug)]
#[command(after_help = "\
Runs cargo in the crate or workspace at PATH, with the profile `guest` if the workspace's Cargo.toml
has one, else `release`. Overflow checks are on in any profile. Adds the target wasm32-wasip2 with
rustup when it is missing.")]
pub(super) struct BuildArgs {
    /// The folder of a guest crate or of a workspace of them
    #[arg(default_value = ".")]
    path: PathBuf,
    /// Where the components go [default: guests/ in PATH]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Cargo profile
    #[arg(long)]
    profile: Option<String>,
    /// Build only this package; may be repeated
    #[arg(short, long)]
    package: Vec<String>,
}

pub(super) fn build(args: &BuildArgs) -> u8 {
    match build_all(args) {
        Ok(built) => {
            for (path, bytes) in built {
                let bytes = show_bytes(usize::try_from(bytes).unwrap_or(usize::MAX));
                print(&format!("{} ({bytes})", path.display()));
            }
            exit::DONE
        }
        Err(fault) => {
            print_fault(&fault);
            exit::FAILED
        }
    }
}

fn failed(what: &str, error: &std::io::Error) -> Fault {
    Fault::new(Code::File, format!("{what}: {error}"))
}

fn build_all(args: &BuildArgs) -> Result<Vec<(PathBuf, u64)>, Fault> {
    let manifest = args.path.join("Cargo.toml");
    fs::metadata(&manifest).map_err(|error| {
        let what = format!("{}: no crate is there", manifest.display());
        failed(&what, &error)
    })?;
    add_target()?;
    let components = match &args.profile {
        Some(profile) => cargo_build(args, profile)?,
        None => cargo_build(args, default_profile(&workspace_manifest(&args.path)?))?,
    };
    if components.is_empty() {
        let message = format!(
            "{}: cargo built no component; a guest's Cargo.toml needs [lib] crate-type = [\"cdylib\"]",
            args.path.display()
        );
        return Err(Fault::new(Code::Build, message));
    }
    let out = args.out.clone().unwrap_or_else(|| args.path.join("guests"));
    fs::create_dir_all(&out).map_err(|error| failed(&out.display().to_string(), &error))?;
    components
        .into_iter()
        .map(|(name, file)| {
            let to = out.join(format!("{name}.wasm"));
            let bytes = fs::copy(&file, &to).map_err(|error| {
                failed(&format!("{} to {}", file.display(), to.display()), &error)
            })?;
            Ok((to, bytes))
        })
        .collect()
}

/// Adds the target where rustup manages the toolchain; cargo says what is wrong elsewhere.
fn add_target() -> Result<(), Fault> {
    let Ok(listed) = Command::new("rustup").args(["target", "list", "--installed"]).output() else {
        return Ok(());
    };
    if String::from_utf8_lossy(&listed.stdout).lines().any(|line| line.trim() == TARGET) {
        return Ok(());
    }
    eprint(&format!("adding the target {TARGET} with rustup"));
    let added = Command::new("rustup")
        .args(["target", "add", TARGET])
        .status()
        .map_err(|error| failed("rustup", &error))?;
    if added.success() {
        return Ok(());
    }
    let message = format!("`rustup target add {TARGET}` failed ({added}); see its output above");
    Err(Fault::new(Code::Build, message))
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The text of the Cargo.toml that cargo takes profiles from: that of the workspace.
fn workspace_manifest(path: &Path) -> Result<String, Fault> {
    let found = cargo()
        .args(["locate-project", "--workspace", "--message-format", "plain"])
        .current_dir(path)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed("cargo", &error))?;
    if !found.status.success() {
        let message = format!("cargo found no workspace ({}); see its output above", found.status);
        return Err(Fault::new(Code::Build, message));
    }
    let manifest = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim_end());
    fs::read_to_string(&manifest).map_err(|error| failed(&manifest.display().to_string(), &error))
}

fn default_profile(manifest: &str) -> &'static str {
    if manifest.contains("[profile.guest]") { "guest" } else { "release" }
}

/// What cargo is asked for. Whatever the profile says, arithmetic that overflows panics: without
/// that, a guest commits numbers at which its tests panic.
fn cargo_words(packages: &[String], profile: &str) -> Vec<String> {
    let overflow = format!("profile.{profile}.overflow-checks=true");
    let words = ["build", "--lib", "--target", TARGET, "--profile", profile, "--config", &overflow];
    let format = "--message-format=json-render-diagnostics";
    let packages = packages.iter().flat_map(|package| ["--package", package.as_str()]);
    words.into_iter().chain([format]).chain(packages).map(str::to_owned).collect()
}

/// Runs cargo and answers the names and files of the components it made.
fn cargo_build(args: &BuildArgs, profile: &str) -> Result<Vec<(String, PathBuf)>, Fault> {
    let mut child = cargo()
        .args(cargo_words(&args.package, profile))
        .current_dir(&args.path)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed("cargo", &error))?;
    let mut components = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(|error| failed("cargo's output", &error))?;
            components.extend(component(&line));
        }
    }
    let ended = child.wait().map_err(|error| failed("cargo", &error))?;
    if ended.success() {
        return Ok(components);
    }
    let message = format!("cargo build failed ({ended}); its messages are above");
    Err(Fault::new(Code::Build, message))
}

/// The component that a line of cargo's output tells of: the package's name and the file.
fn component(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message.get("reason")?.as_str()? != "compiler-artifact" {
        return None;
    }
    let target = message.get("target")?;
    let crate_types = target.get("crate_types")?.as_array()?;
    if !crate_types.iter().any(|crate_type| crate_type == "cdylib") {
        return None;
    }
    let files = message.get("filenames")?.as_array()?;
    let file = files
        .iter()
        .filter_map(Value::as_str)
        .map(Path::new)
        .find(|file| file.extension().is_some_and(|extension| extension == "wasm"))?;
    let manifest = message.get("manifest_path")?.as_str()?;
    let folder = Path::new(manifest).parent()?.file_name()?.to_str()?;
    // Cargo writes `-` as `_` in a library's name; the package's id has it as it is.
    let name = package_name(message.get("package_id")?.as_str()?).unwrap_or(folder);
    Some((name.to_owned(), file.to_owned()))
}

/// `path+file:///x/ledger#0.1.0` or `path+file:///x/folder#ledger@0.1.0`.
fn package_name(id: &str) -> Option<&str> {
    let (place, version) = id.rsplit_once('#')?;
    match version.split_once('@') {
        Some((name, _)) => Some(name),
        None => place.rsplit('/').next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_is_checked_whatever_the_profile() {
        for profile in ["guest", "release", "dev", "odd"] {
            let words = cargo_words(&["a".to_owned(), "b".to_owned()], profile).join(" ");
            assert!(words.contains(&format!("--profile {profile} ")), "{words}");
            assert!(words.contains(&format!("--config profile.{profile}.overflow-checks=true")));
            assert!(words.ends_with("--package a --package b"), "{words}");
        }
    }

    #[test]
    fn components_are_found_in_cargos_messages() {
        let line = |kind: &str, id: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"{id}","manifest_path":"/x/my-guest/Cargo.toml",
                "target":{{"crate_types":["{kind}"]}},"filenames":["/t/my_guest.wasm"]}}"#
            )
        };
        let found = component(&line("cdylib", "path+file:///x/my-guest#0.1.0"));
        assert_eq!(found, Some(("my-guest".to_owned(), PathBuf::from("/t/my_guest.wasm"))));
        let found = component(&line("cdylib", "path+file:///x/folder#other@0.1.0"));
        assert_eq!(found.map(|found| found.0), Some("other".to_owned()));
        assert_eq!(component(&line("lib", "path+file:///x/my-guest#0.1.0")), None);
        assert_eq!(component("not json"), None);
    }
}
