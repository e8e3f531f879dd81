//! A primary with unmodified Node workers.

mod hand_off;
mod life;
mod rogue;
mod shortage;
mod sockets;
