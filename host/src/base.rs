//! What every layer may use: identities, limits, time, randomness, errors.

pub mod children;
pub mod clock;
pub mod entropy;
pub mod error;
pub mod failpoint;
pub mod ids;
pub mod limits;
pub mod regular;
pub mod room;
pub mod sdk_codes;
pub mod stop;
pub mod ticket;
pub mod vitals;
