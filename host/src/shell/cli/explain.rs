//! `host explain`: what an error code means.

use clap::Args;
use serde_json::json;

use super::{Output, print, print_fault};
use crate::base::error::{Code, Fault};
use crate::base::sdk_codes::{SDK_CODES, blame};
use crate::shell::exit;

#[derive(Args, Debug)]
pub(super) struct ExplainArgs {
    /// The code, like E_FUEL; all codes when left out
    code: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Output::Human)]
    output: Output,
}

pub(super) fn explain(args: &ExplainArgs) -> u8 {
    let codes = match &args.code {
        None => Code::ALL.to_vec(),
        Some(text) => match text.parse::<Code>() {
            Ok(code) => vec![code],
            Err(_) if explain_sdk(text, args.output) => return exit::DONE,
            Err(unknown) => {
                print_fault(&Fault::new(Code::Option, unknown.to_string()));
                return exit::USAGE;
            }
        },
    };
    for code in codes {
        match args.output {
            Output::Json => print(
                &json!({
                    "code": code,
                    "blame": code.blame(),
                    "meaning": code.meaning(),
                    "remedy": code.remedy(),
                })
                .to_string(),
            ),
            Output::Human if args.code.is_none() => {
                print(&format!("{:<26} {}", code.as_str(), code.meaning()));
            }
            Output::Human => print(&format!(
                "{code}\n  {}\n  Blame: {}.\n  What to do: {}",
                code.meaning(),
                code.blame(),
                code.remedy()
            )),
        }
    }
    exit::DONE
}

/// Explains a code of the SDK; false when it is none.
fn explain_sdk(text: &str, output: Output) -> bool {
    let Some((code, meaning, remedy)) = SDK_CODES.iter().find(|(code, ..)| *code == text) else {
        return false;
    };
    print(&match output {
        Output::Json => json!({
            "code": code,
            "blame": blame(code),
            "meaning": meaning,
            "remedy": remedy,
        })
        .to_string(),
        Output::Human => format!(
            "{code}: a rejection of the guest, made by guest-sdk\n  {meaning}\n  What to do: {remedy}"
        ),
    });
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use clap::Parser;

    use super::*;
    use crate::shell::cli::Cli;

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_code_that_the_sdk_makes_is_explained() {
        let mut files = Vec::new();
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-sdk/src");
        sources(&sdk, &mut files);
        let mut made = BTreeSet::new();
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            let code: String = lines.map(|line| format!("{line}\n")).collect();
            for part in code.split("Rejection::new(\"").skip(1) {
                made.insert(part.split('"').next().unwrap().to_owned());
            }
            let errors =
                code.split("fn code(&self)").nth(1).filter(|_| file.ends_with("resource.rs"));
            for part in errors.into_iter().flat_map(|errors| errors.split("=> \"").skip(1)) {
                made.insert(part.split('"').next().unwrap().to_owned());
            }
        }
        assert!(made.len() > 10, "{made:?}");
        let known: BTreeSet<String> =
            SDK_CODES.iter().map(|(code, ..)| (*code).to_owned()).collect();
        assert_eq!(made, known);
    }

    /// What ends a start, or happens where no host runs.
    const WITHOUT_A_HOST: &[Code] = &[
        Code::CodeChanged,
        Code::Init,
        Code::MemoryLimit,
        Code::Budget,
        Code::BudgetSize,
        Code::Option,
        Code::Manifest,
        Code::Parameter,
        Code::Name,
        Code::File,
        Code::Build,
        Code::NoMemory,
        Code::Engine,
        Code::Http,
        Code::HostRunning,
        Code::DataDir,
        Code::DataDirLocked,
        Code::Format,
        Code::StoreFull,
        Code::StoreIo,
        Code::StoreCorrupt,
        Code::DaemonFile,
    ];

    /// Commands that need no running host.
    const ALONE: &[&str] = &["build", "explain", "inspect", "new", "run", "validate", "verify"];

    #[test]
    fn no_remedy_names_a_command_that_does_not_work_there() {
        let host = Code::ALL.iter().map(|code| (code.as_str(), code.meaning(), code.remedy()));
        let mut named = 0;
        for (code, meaning, remedy) in host.chain(SDK_CODES.iter().copied()) {
            let alone = WITHOUT_A_HOST.iter().any(|one| one.as_str() == code);
            let texts =
                [meaning, remedy].into_iter().flat_map(|text| text.split('`').skip(1).step_by(2));
            for words in texts.filter(|text| text.starts_with("host ")) {
                named += 1;
                let words: Vec<&str> = words.split(' ').collect();
                let parsed =
                    Cli::try_parse_from(words.iter().map(|word| word.replace("[/CONTRACT]", "")));
                let short = |error: &clap::Error| {
                    use clap::error::ErrorKind::{DisplayHelp, MissingRequiredArgument};
                    // A command alone, for its name, or its help.
                    let alone = words.len() <= 3 && error.kind() == MissingRequiredArgument;
                    alone || error.kind() == DisplayHelp
                };
                if let Err(error) = &parsed {
                    assert!(short(error), "{code}: {words:?}: {error}");
                }
                let works = ALONE.contains(&words[1]) || words.contains(&"--data");
                assert!(!alone || works, "{code} names {words:?}, which needs a running host");
            }
        }
        assert!(named > 20, "{named}");
    }
}
