//! The command line.
//!
//! Answers go to standard output, everything else to standard error. Colour and progress are shown
//! on terminals only.

mod bits;
mod build;
mod call;
mod client;
mod conduct;
mod crashes;
mod deploy;
mod explain;
mod failure;
mod inspect;
mod lineage;
mod log;
mod new;
mod options;
mod output;
mod prepare;
mod ps;
mod replay;
mod requests;
mod resources;
mod run;
mod services;
mod settings;
mod simulate;
mod stop;
mod store;
mod stored;
mod suggest;
mod table;
mod upgrade;
mod validate;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use self::client::client;
pub(super) use self::failure::print_fault;
use self::failure::tell_fault;
use self::log::start_log;
use super::api::default_socket_path;
use super::sink::{self, eprint, print};
use super::{exit, signals};
use crate::base::limits::FLUSH_TIME_MAX;
use crate::mechanisms::sandbox::compile_in_this_process;

/// A WebAssembly transaction host: every call of a guest commits whole, or it never happened.
#[derive(Debug, Parser)]
#[command(
    name = "host",
    version,
    max_term_width = 100,
    after_help = "\
Exit codes: 0 done or committed, 1 rejected or failed, 2 wrong usage, 3 crashed, 4 unknown,
5 no host answers, 10 done but the answer could not be written; of `host run` also
6 emergency, 7 forced stop; of `host health` 8 not well, 9 stuck.
Environment: BULKHEAD_SOCKET, BULKHEAD_DATA, BULKHEAD_MEMORY, BULKHEAD_CACHE_DIR, BULKHEAD_LOG (like
`info,guest=debug`), NO_COLOR."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a guest crate from a template that builds and has a test
    New(new::NewArgs),
    /// Build guest crates to components in guests/*.wasm
    Build(build::BuildArgs),
    /// Show a guest's contracts, imports and memory, and why it is or isn't admissible
    Inspect(inspect::InspectArgs),
    /// Check services' manifests and their guests, and start nothing
    Validate(validate::ValidateArgs),
    /// Start guests and services; run a request file, or listen on a socket until Ctrl-C
    Run(Box<run::RunArgs>),
    /// Call a contract of a daemon in the running host
    Call(call::CallArgs),
    /// Stop the running host in order, and wait until it is gone
    Stop(stop::StopArgs),
    /// Say how the running host is, even when all its daemons are busy
    Health(stop::HealthArgs),
    /// List root, daemons and running transactions of the running host
    #[command(aliases = ["list", "ls"])]
    Ps(ps::PsArgs),
    /// End one running transaction: it is rolled back
    Kill(bits::KillArgs),
    /// Refuse requests to a daemon or to one of its contracts
    Disable(bits::DisableArgs),
    /// Take requests to a daemon or to one of its contracts again
    Enable(bits::EnableArgs),
    /// Let the requests of a daemon wait
    Pause(bits::PauseArgs),
    /// Let a paused daemon go on, or start a parked one again on its last commit
    Resume(bits::ResumeArgs),
    /// List the resources that daemons need: whether they are there, since when, who uses them
    Resources(resources::ResourcesArgs),
    /// Take a resource down, or let go of it, for a drill
    Resource(resources::ResourceArgs),
    /// List the commits of a daemon that can be had again: size, code, hash
    Checkpoints(lineage::ListArgs),
    /// List what a daemon committed: requests, changes, bytes
    History(lineage::ListArgs),
    /// Write a daemon's state, with its code, to a file
    Snapshot(lineage::SnapshotArgs),
    /// Start a daemon on the state in a snapshot
    Restore(lineage::RestoreArgs),
    /// Start a copy of a daemon, as it is or as it was
    Fork(lineage::ForkArgs),
    /// Take a daemon back to an earlier commit, as a commit of its own
    Revert(lineage::RevertArgs),
    /// Go on with other code on a daemon's state: rehearsed, checked, then swapped or dropped
    Upgrade(upgrade::UpgradeArgs),
    /// Show what a daemon shows others
    Output(output::OutputArgs),
    /// Stop a daemon that was forked or restored, and delete its state
    Remove(lineage::RemoveArgs),
    /// Give a daemon's state another name, in a data directory that no host uses
    Rename(stored::RenameArgs),
    /// List crashes, or show all that is known of one
    Crashes(crashes::CrashesArgs),
    /// Run a crashed request again, alone, on the very commit that it crashed on
    Replay(replay::ReplayArgs),
    /// Crash a daemon, or a copy of the whole host, and see that nothing is lost
    SimulateCrash(simulate::SimulateArgs),
    /// Read a data directory whole and say what is good, what is not, and where
    Verify(verify::VerifyArgs),
    /// Say what an error code means and what to do
    Explain(explain::ExplainArgs),
    /// Compile standard input; how `host run` keeps the compiler in a process of its own
    #[command(hide = true)]
    CompileGuest,
}

/// The file that this process runs, even when another one has its name by now, as after an upgrade
/// of the package: a child of another version has other ideas of what it is asked.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// How answers are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Output {
    /// For people
    Human,
    /// For programs: one JSON value per line
    Json,
}

#[derive(Args, Clone, Debug)]
struct SocketArgs {
    /// The running host's socket [default: bulkhead/host.sock in $XDG_RUNTIME_DIR, or in /tmp]
    #[arg(long, env = "BULKHEAD_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl SocketArgs {
    /// True when the user said which socket.
    fn is_given(&self) -> bool {
        self.socket.is_some()
    }

    fn path(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(default_socket_path)
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    log::tell_of_panics();
    if let Err(error) = signals::survive_large_files() {
        eprint(&format!("no handler for a file that is too large: {error}"));
    }
    let cli = suggest::parse();
    if let Err(fault) = log::check_filter() {
        print_fault(&fault);
        return ExitCode::from(exit::USAGE);
    }
    let is_host = matches!(cli.command, Command::Run(_));
    let code = match cli.command {
        Command::New(args) => new::new(&args),
        Command::Build(args) => build::build(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Validate(args) => validate::validate(&args),
        Command::Run(args) => run::run(&args),
        Command::Call(args) => client(exit::UNKNOWN, move || call::call(&args)),
        Command::Stop(args) => client(exit::FAILED, move || stop::stop(&args)),
        Command::Health(args) => client(exit::FAILED, move || stop::health(&args)),
        // It only shows, and Ctrl-C is how it ends.
        Command::Ps(args) if args.watches() => ps::ps(&args),
        Command::Ps(args) => client(exit::FAILED, move || ps::ps(&args)),
        Command::Kill(args) => client(exit::UNKNOWN, move || bits::kill(&args)),
        Command::Disable(args) => client(exit::UNKNOWN, move || bits::disable(&args)),
        Command::Enable(args) => client(exit::UNKNOWN, move || bits::enable(&args)),
        Command::Pause(args) => client(exit::UNKNOWN, move || bits::pause(&args)),
        Command::Resume(args) => client(exit::UNKNOWN, move || bits::resume(&args)),
        Command::Resources(args) => client(exit::FAILED, move || resources::resources(&args)),
        Command::Resource(args) => client(exit::UNKNOWN, move || resources::switch(&args)),
        Command::Checkpoints(args) => client(exit::FAILED, move || lineage::checkpoints(&args)),
        Command::History(args) => client(exit::FAILED, move || lineage::history(&args)),
        Command::Snapshot(args) => client(exit::UNKNOWN, move || lineage::snapshot(&args)),
        Command::Restore(args) => client(exit::UNKNOWN, move || lineage::restore(&args)),
        Command::Fork(args) => client(exit::UNKNOWN, move || lineage::fork(&args)),
        Command::Upgrade(args) => client(exit::UNKNOWN, move || upgrade::upgrade(&args)),
        Command::Revert(args) => client(exit::UNKNOWN, move || lineage::revert(&args)),
        Command::Output(args) => client(exit::FAILED, move || output::output(&args)),
        Command::Remove(args) => client(exit::UNKNOWN, move || lineage::remove(&args)),
        Command::Rename(args) => stored::rename(&args),
        Command::Crashes(args) => client(exit::FAILED, move || crashes::crashes(&args)),
        Command::Replay(args) => replay::replay(&args),
        Command::SimulateCrash(args) => simulate::simulate(&args),
        Command::Verify(args) => verify::verify(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::CompileGuest => match compile_in_this_process() {
            Ok(()) => exit::DONE,
            Err(error) => {
                eprint(&error.to_string());
                exit::FAILED
            }
        },
    };
    // An answer that nobody could get is no success, though a script must not do it once more. What
    // a host says as it starts is no answer.
    let lost = code == exit::DONE && !is_host && sink::has_lost_answers();
    if lost {
        eprint("error: what was asked for was done all the same");
    }
    sink::flush(FLUSH_TIME_MAX);
    ExitCode::from(if lost { exit::UNWRITTEN } else { code })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
