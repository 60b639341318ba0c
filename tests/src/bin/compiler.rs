//! Compiles a guest from standard input to standard output, as `host compile-guest` does: tests of
//! this package can't build the binary `host`.

fn main() -> std::process::ExitCode {
    let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    let (signals, full_backtraces) = (!has("--no-signals"), has("--full-backtraces"));
    match host::mechanisms::sandbox::compile_in_this_process(signals, full_backtraces) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}
