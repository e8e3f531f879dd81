//! The project's own tasks, run as `cargo xtask TASK`: one module a task.
//!
//! A library besides the command, so that tests can share what a task knows.

pub mod bench;
pub mod ci;
pub mod fetch;
pub mod golden;
pub mod process;
pub mod soak;
pub mod test;
pub mod workspace;
