//! A primary with unmodified Node workers.

mod hand_off;
mod life;
mod pitfalls;
mod rogue;
mod schedule;
mod shortage;
mod slow;
mod sockets;
