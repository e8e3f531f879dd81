//! What is known not to work, and why.

use Verdict::{Fails, Works};

use crate::pair::{
    Cell,
    Peer::{self, Bun, Deno},
};

/// What is expected of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Works,
    /// It does not, because of the other side.
    Fails(&'static str),
}

/// Cells that have a reason in common.
struct Known {
    features: &'static [&'static str],
    /// Which parents and children.
    between: fn(Peer, Peer) -> bool,
    verdict: Verdict,
}

const KNOWN: [Known; 13] = [
    Known {
        features: &["native", "dgram-native"],
        between: |parent, _| parent == Bun,
        verdict: Fails("Bun sends no raw handles (`ERR_INVALID_HANDLE_TYPE`)."),
    },
    Known {
        features: &["native"],
        between: |_, child| child == Bun,
        verdict: Fails("Bun ends when it gets a raw handle of a stream or server."),
    },
    Known {
        features: &["native"],
        between: |parent, child| parent != Deno && child == Deno,
        verdict: Fails("Deno accepts nothing on a raw handle that Deno has not sent."),
    },
    Known {
        features: &["dgram-native"],
        between: |parent, _| parent == Deno,
        verdict: Fails("Deno sends no raw handles of datagram sockets (`ERR_INVALID_HANDLE_TYPE`)."),
    },
    Known {
        features: &["dgram-native"],
        between: |_, child| child == Deno,
        verdict: Fails("Deno drops a raw handle of a datagram socket: the message comes without it."),
    },
    Known {
        features: &["advanced"],
        between: |parent, child| one_is(Bun, parent, child),
        verdict: Fails("Bun writes and reads JavaScriptCore's format, and not V8's."),
    },
    Known {
        features: &["advanced"],
        between: |parent, child| one_is(Deno, parent, child),
        verdict: Fails("Deno writes version 16 of V8's format; Node reads none above 15."),
    },
    Known {
        features: &["large-integer"],
        between: |parent, child| parent == Deno || child == Deno,
        verdict: Fails("Deno makes a BigInt of an integer from 2⁵³ on."),
    },
    Known {
        features: &["lone-surrogate"],
        between: |parent, child| parent == Deno || child == Deno,
        verdict: Fails("Deno makes U+FFFD of a lone surrogate."),
    },
    Known {
        features: &["server-shared"],
        between: |parent, _| parent == Deno,
        verdict: Fails("Deno closes the server that it sends."),
    },
    Known {
        features: &["unix-server"],
        between: |parent, child| parent != Deno && child == Deno,
        verdict: Fails(
            "Deno takes every server for one of TCP, unless a field of its own (`nativeKind`) says otherwise, and closes \
             what it accepts.",
        ),
    },
    Known {
        features: &["count", "count-by-child"],
        between: |parent, child| parent == Bun || child == Bun,
        verdict: Fails(
            "Bun counts no sockets that are elsewhere: it neither asks nor answers (`NODE_SOCKET_…`).",
        ),
    },
    Known {
        features: &["count", "count-by-child"],
        between: |parent, child| one_is(Deno, parent, child),
        verdict: Fails(
            "Deno labels sockets with a field of its own (`socketListKey`), and so counts only between two of its kind.",
        ),
    },
];

/// Whether exactly one side is this peer.
fn one_is(peer: Peer, parent: Peer, child: Peer) -> bool {
    (parent == peer) != (child == peer)
}

pub(crate) fn verdict(cell: &Cell) -> Verdict {
    let fits =
        |known: &&Known| known.features.contains(&cell.feature) && (known.between)(cell.parent, cell.child);
    KNOWN.iter().find(fits).map_or(Works, |known| known.verdict)
}
