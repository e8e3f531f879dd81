//! Node's multi-process model for Rust: child processes, the IPC channel, handle passing and the cluster
//! that shares ports, on Node's own wire. Either side of every channel may be a real, unmodified Node.
//!
//! A program whose workers share a port, primary and worker in one source:
//!
//! ```no_run
//! use ganger::cluster::{Event, Primary, Worker};
//!
//! fn main() -> ganger::Result {
//!     ganger::main(primary, worker)
//! }
//!
//! async fn primary(mut cluster: Primary) -> ganger::Result {
//!     for _ in 0..2 {
//!         cluster.fork()?;
//!     }
//!     while let Some(event) = cluster.next().await {
//!         if let Event::Exit { worker, exit, .. } = event {
//!             println!("worker {} died: {exit}", worker.pid);
//!         }
//!     }
//!     Ok(())
//! }
//!
//! async fn worker(worker: Worker) -> ganger::Result {
//!     let mut listener = worker.listen(8000).await?;
//!     while let Some(connection) = listener.accept().await {
//!         // … serve it
//!     }
//!     Ok(())
//! }
//! ```
//!
//! The floors, lower ones knowing nothing of upper ones: [`sys`] and [`handle`] know the system and not the
//! language, [`ganger_proto`] knows the language and not the system; [`channel`] brings them together,
//! [`process`] starts programs, [`cluster`] shares ports between them, [`guard`] keeps them alive.

pub mod channel;
pub mod cluster;
pub mod guard;
pub mod handle;
pub mod ipc;
pub mod process;
pub mod sys;

mod clock;
mod entry;

pub use channel::Channel;
pub use entry::{Error, Result, agent, main, main_with_agent, worker};
pub use ganger_proto::{
    AgentId, Generation, ListenerKey, Payload, Serialization, Slot, SocketId, Value, WorkerId, value,
};
pub use guard::Guard;
pub use handle::Handle;
pub use process::{exec, exec_file, exec_file_sync, exec_sync, fork, spawn, spawn_sync};
