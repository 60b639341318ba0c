//! Compiles a guest from standard input to standard output, as `host compile-guest` does: tests of
//! this package can't build the binary `host`.

fn main() -> std::process::ExitCode {
    match host::mechanisms::sandbox::compile_in_this_process() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}
