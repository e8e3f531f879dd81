//! Properties of the pure core, checked against small models.

mod frames;
mod pitfalls;
mod primary;
mod schedule;
mod session;
mod stream;
mod v8;
