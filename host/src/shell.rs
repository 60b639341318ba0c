//! The composition root: the only place that names the real clock, entropy, files and sockets.

pub mod api;
pub mod cli;
mod control_plane;
mod ending;
pub mod exit;
pub mod health;
mod ingress;
mod main_loop;
pub mod place;
mod signals;
mod watchdog;
