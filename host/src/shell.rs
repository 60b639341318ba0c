//! The composition root: the only place that names the real clock, entropy, files and sockets.

pub mod api;
pub mod cli;
pub mod exit;
