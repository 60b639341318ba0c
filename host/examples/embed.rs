//! Runs one guest inside this program: `cargo run --release --example embed [GUEST.wasm]`.

use std::error::Error;
use std::sync::Arc;

use host::{DaemonOptions, DaemonPlan, Request, Root, RootOptions, Sandbox, SandboxOptions};
use host::{SystemClock, SystemEntropy};
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "guests/counter.wasm".to_owned());
    let sandbox = Sandbox::new(SandboxOptions::default())?;
    let guest = sandbox.deploy(&std::fs::read(path)?)?;
    let plan = DaemonPlan::new(guest, DaemonOptions::new("counter", 16 << 20));
    let clock = Arc::new(SystemClock::new());
    let options = RootOptions::new(1 << 30, clock, Arc::new(SystemEntropy));
    let root = Root::start(vec![plan], options)?;
    for by in [2, 40] {
        let answer = root.call(Request::new("counter", "increment", json!({ "by": by })))?;
        println!("{}", answer.to_json());
    }
    Ok(())
}
