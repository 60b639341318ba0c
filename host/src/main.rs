//! The binary `host`: see `host --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    host::shell::cli::main()
}
