//! Decisions as plain functions of values: no files, clocks, threads or engine in here.

pub mod admission;
pub mod awake;
pub mod barrier;
pub mod checkpoint;
pub mod contract;
pub mod crash_rate;
pub mod crash_report;
pub mod delta;
#[cfg(test)]
mod dice;
pub mod drill;
pub mod frames;
pub mod ingress;
pub mod json;
pub mod keys;
pub mod kill_bits;
pub mod layers;
pub mod lease;
pub mod manifest;
pub mod needs;
pub mod order;
pub mod out_of_memory;
pub mod output;
pub mod pace;
pub mod policy;
pub mod reader;
pub mod record;
pub mod repeats;
pub mod request;
pub mod resource;
pub mod service_state;
pub mod setting;
pub mod size;
pub mod stop_order;
pub mod supervision;
pub mod upgrade;
pub mod watchdog;
