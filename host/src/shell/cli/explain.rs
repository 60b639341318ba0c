//! `host explain`: what an error code means.

use clap::Args;
use serde_json::json;

use super::{Output, eprint, print};
use crate::base::error::Code;
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
        Some(text) => match text.parse() {
            Ok(code) => vec![code],
            Err(unknown) => {
                eprint(&format!("error: {unknown}"));
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
