//! A primary with unmodified Node workers.

mod hand_off;
mod life;
mod rogue;
mod schedule;
mod shortage;
mod sockets;
