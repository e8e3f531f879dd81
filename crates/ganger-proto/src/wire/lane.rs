//! The native lane: what two ends of ours say beside Node's wire. Each packet is one datagram of a `SOCK_SEQPACKET`
//! socket, so there is nothing to cut, and its descriptors belong to it and to nothing else.
//!
//! ```text
//!   hello         G version                                 the worker's, before anything else
//!   connections   C length(key) key  seq seq seq …           with as many descriptors, in that order
//!   answers       A  seq taken  seq taken …                1024 of them at most
//!   note          N bytes                                   a library user's, with any descriptors
//! ```
//!
//! Numbers are little-endian: a length has 2 bytes, a `seq` 8, all else 1.

use crate::{ListenerKey, Seq};

/// The version that this side speaks. Where the two ends differ, Node's wire is spoken.
pub const VERSION: u8 = 1;

/// So many descriptors travel in one packet, at most.
pub const DESCRIPTORS: usize = 64;

/// So many answers travel in one packet, at most.
pub const ANSWERS: usize = 1024;

/// So long is a packet, at most.
pub const LONGEST: usize = 64 << 10;

/// One packet, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packet {
    /// "I speak this version."
    Hello {
        /// Which.
        version: u8,
    },
    /// Connections that were accepted from one socket.
    Connections {
        /// Which socket.
        key: ListenerKey,
        /// What answers refer to, one a descriptor.
        seqs: Vec<Seq>,
    },
    /// What became of connections: whether the program has taken them.
    Answers(Vec<(Seq, bool)>),
    /// Whatever a user wants to say about descriptors.
    Note(Vec<u8>),
}

/// A packet that nobody of ours would send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet on the native lane that is none")]
pub struct NoPacket;

impl Packet {
    /// Reads a packet.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(bytes: &[u8]) -> Result<Self, NoPacket> {
        let (kind, rest) = bytes.split_first().ok_or(NoPacket)?;
        match kind {
            b'G' => match rest {
                [version] => Ok(Self::Hello { version: *version }),
                _ => Err(NoPacket),
            },
            b'C' => {
                let (length, rest) = rest.split_first_chunk().ok_or(NoPacket)?;
                let length = usize::from(u16::from_le_bytes(*length));
                let (key, rest) = rest.split_at_checked(length).ok_or(NoPacket)?;
                let key = std::str::from_utf8(key).map_err(|_| NoPacket)?;
                let (seqs, []) = rest.as_chunks() else { return Err(NoPacket) };
                let seqs = seqs.iter().map(|seq| Seq(u64::from_le_bytes(*seq))).collect();
                Ok(Self::Connections { key: key.into(), seqs })
            }
            b'A' => {
                let (answers, []) = rest.as_chunks::<9>() else { return Err(NoPacket) };
                if answers.len() > ANSWERS {
                    return Err(NoPacket);
                }
                let answer = |[a, b, c, d, e, f, g, h, taken]: &[u8; 9]| {
                    (Seq(u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h])), *taken != 0)
                };
                Ok(Self::Answers(answers.iter().map(answer).collect()))
            }
            b'N' => Ok(Self::Note(rest.into())),
            _ => Err(NoPacket),
        }
    }

    /// Writes a packet. A key longer than 64 KiB is cut off, and would not be understood.
    pub fn write(&self) -> Vec<u8> {
        match self {
            Self::Hello { version } => vec![b'G', *version],
            Self::Connections { key, seqs } => {
                let key = key.as_str().as_bytes();
                let length = u16::try_from(key.len()).unwrap_or(u16::MAX);
                let mut bytes = Vec::with_capacity(3 + key.len() + 8 * seqs.len());
                bytes.push(b'C');
                bytes.extend_from_slice(&length.to_le_bytes());
                bytes.extend_from_slice(&key[..usize::from(length)]);
                seqs.iter().for_each(|seq| bytes.extend_from_slice(&seq.0.to_le_bytes()));
                bytes
            }
            Self::Answers(answers) => {
                let mut bytes = Vec::with_capacity(1 + 9 * answers.len());
                bytes.push(b'A');
                for (seq, taken) in answers {
                    bytes.extend_from_slice(&seq.0.to_le_bytes());
                    bytes.push(u8::from(*taken));
                }
                bytes
            }
            Self::Note(note) => [b"N", &note[..]].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let seqs = vec![Seq(0), Seq(7), Seq(u64::MAX)];
        for packet in [
            Packet::Hello { version: VERSION },
            Packet::Connections { key: "127.0.0.1:80:4:undefined".into(), seqs: seqs.clone() },
            Packet::Connections { key: "".into(), seqs: Vec::new() },
            Packet::Answers(seqs.into_iter().map(|seq| (seq, seq.0 > 0)).collect()),
            Packet::Note(b"anything".to_vec()),
            Packet::Note(Vec::new()),
        ] {
            let bytes = packet.write();
            assert_eq!(Packet::read(&bytes), Ok(packet.clone()));
            // A piece of it is another packet, or none; it is never misread beyond its end.
            for end in 0..bytes.len() {
                let _ = Packet::read(&bytes[..end]);
            }
        }
    }

    #[test]
    fn what_nobody_would_send_is_refused() {
        for none in [&b""[..], b"X", b"G", b"G12", b"C", b"C\x05\0ab", b"C\x00\x00123", b"C\x01\0\xff", b"A1"]
        {
            assert_eq!(Packet::read(none), Err(NoPacket), "{none:?}");
        }
        let answers = |count| Packet::Answers(vec![(Seq(1), true); count]);
        assert_eq!(Packet::read(&answers(ANSWERS).write()), Ok(answers(ANSWERS)));
        assert_eq!(Packet::read(&answers(ANSWERS + 1).write()), Err(NoPacket));
    }
}
