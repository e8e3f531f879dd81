//! A session that moves into another program: the same, with other handles.

use super::{Attachment, Event, Held, Pending, Session};

impl<H> Session<H> {
    /// The same session with other handles: for moving it into another program.
    pub fn map_handles<G>(self, mut map: impl FnMut(H) -> G) -> Session<G> {
        let mut attachment = |old: Attachment<H>| Attachment {
            handle: map(old.handle),
            kind: old.kind,
            tag: old.tag,
            order: old.order,
        };
        let pending = self.pending.into_iter().map(|old| Pending {
            attachment: attachment(old.attachment),
            message: old.message,
            retransmissions: old.retransmissions,
        });
        let pending = pending.collect();
        let held = self.held.into_iter();
        let held =
            held.map(|old| Held { message: old.message, attachment: old.attachment.map(&mut attachment) });
        let held = held.collect();
        let arrived = self.arrived.into_iter().map(&mut map).collect();
        let events = self.events.into_iter().map(|event| match event {
            Event::Message { payload, handle } => {
                Event::Message { payload, handle: handle.map(|(kind, handle)| (kind, map(handle))) }
            }
            Event::Cluster { message, handle } => Event::Cluster { message, handle: handle.map(&mut map) },
            Event::Delivered { tag, handle } => Event::Delivered { tag, handle: map(handle) },
            Event::Returned { tag, handle } => Event::Returned { tag, handle: map(handle) },
            Event::Lent(message) => Event::Lent(message),
            Event::Fault(fault) => Event::Fault(fault),
            Event::Panic(panic) => Event::Panic(panic),
            Event::Disconnected => Event::Disconnected,
        });
        let events = events.collect();
        Session {
            limits: self.limits,
            phase: self.phase,
            cutter: self.cutter,
            arrived,
            out: self.out,
            written: self.written,
            pending,
            departed: self.departed,
            held,
            books: self.books,
            queued: self.queued,
            owed: self.owed,
            events,
        }
    }
}
