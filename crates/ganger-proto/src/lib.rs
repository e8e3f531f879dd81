//! The pure core of ganger: what Node's multi-process model *decides*, without ever touching the world.
//!
//! Nothing here opens a socket, reads a clock, starts a process or knows tokio. Time, descriptors and
//! outcomes come in as arguments; what is to be done comes out as values. So every rule can be tested in
//! microseconds, replayed from a seed, and read on its own.
//!
//! ```text
//!             bytes + handles                Input / Effect                 Event / Command
//!   socket  ───────────────────►  Session  ───────────────────►  Primary  ───────────────────►  Guard
//!           ◄───────────────────           ◄───────────────────  (Worker) ◄───────────────────
//! ```
//!
//! Three seams, and only three. Each machine has four kinds of method, told apart by their names:
//!
//! - **getters** (`is_connected`, `snapshot`) look and change nothing;
//! - **`handle…`** says what happened in the world;
//! - **commands** (`send`, `fork`, `disconnect`) say what somebody above wants;
//! - **`poll_…`** hands out what the driver has to do. After every `handle…` or command the driver polls
//!   until `None`, and looks at the time that the machine wants to be woken.
//!
//! An effect never answers: its outcome comes back as an input. Handles are an opaque type parameter, so
//! the compiler proves that a connection is in exactly one place; the tests use integers for them.
//! All machines are plain data (serde), so their state can be taken out of one program and put into another.

mod id;
mod time;

pub mod cluster;
pub mod guard;
pub mod messenger;
pub mod node;
pub mod notify;
pub mod session;
pub mod value;
pub mod wire;

pub use id::{AgentId, Generation, ListenerKey, Seq, Slot, SocketId, WorkerId};
pub use session::{Payload, Serialization, Session};
pub use time::Time;
pub use value::Value;
