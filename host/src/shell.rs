//! The composition root: the only place that names the real clock, entropy, files and sockets.

pub mod api;
pub mod cli;
mod clients;
mod control_plane;
mod ending;
pub mod exit;
mod files;
pub mod health;
mod ingress;
mod main_loop;
mod notify;
pub mod place;
mod room;
mod signals;
mod sink;
mod watchdog;
