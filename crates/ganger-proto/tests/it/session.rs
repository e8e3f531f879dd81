//! Two joined sessions against Node's rules.

mod deaths;
mod joined;
mod long;
mod misbehaviour;
mod random;
mod rules;
