//! A Unix stream socket, one direction of it, with what the kernel does to descriptors.
//!
//! A descriptor rides on the first byte of its `sendmsg`. One `recvmsg` may return bytes of earlier plain
//! writes, then the buffer with the descriptor, and always stops after that buffer.

use std::collections::VecDeque;

/// What was written and not read yet. `F` is a descriptor on its way.
#[derive(Debug)]
pub(crate) struct Stream<F> {
    buffers: VecDeque<Buffer<F>>,
    unread: usize,
}

#[derive(Debug)]
struct Buffer<F> {
    bytes: Vec<u8>,
    read: usize,
    descriptor: Option<F>,
}

impl<F> Stream<F> {
    pub(crate) fn new() -> Self {
        Self { buffers: VecDeque::new(), unread: 0 }
    }

    pub(crate) fn unread(&self) -> usize {
        self.unread
    }

    pub(crate) fn sendmsg(&mut self, bytes: &[u8], descriptor: Option<F>) {
        assert!(!bytes.is_empty(), "an empty write carries no descriptor");
        self.unread += bytes.len();
        match self.buffers.back_mut() {
            Some(last) if last.descriptor.is_none() && last.read == 0 && descriptor.is_none() => {
                last.bytes.extend_from_slice(bytes);
            }
            _ => self.buffers.push_back(Buffer { bytes: bytes.to_vec(), read: 0, descriptor }),
        }
    }

    /// Reads at most `most` bytes.
    pub(crate) fn recvmsg(&mut self, most: usize) -> (Vec<u8>, Option<F>) {
        let mut bytes = Vec::with_capacity(most.min(self.unread));
        let mut descriptor = None;
        while let Some(buffer) = self.buffers.front_mut() {
            let count = (most - bytes.len()).min(buffer.bytes.len() - buffer.read);
            if count == 0 {
                break;
            }
            bytes.extend_from_slice(&buffer.bytes[buffer.read..buffer.read + count]);
            buffer.read += count;
            descriptor = buffer.descriptor.take();
            if buffer.read == buffer.bytes.len() {
                self.buffers.pop_front();
            }
            if descriptor.is_some() {
                break;
            }
        }
        self.unread -= bytes.len();
        (bytes, descriptor)
    }

    /// The descriptors that nobody has received yet.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = &F> {
        self.buffers.iter().filter_map(|buffer| buffer.descriptor.as_ref())
    }

    /// The reader closed its end: what it has not read is gone, descriptors with it.
    pub(crate) fn discard(&mut self) -> impl Iterator<Item = F> + use<F> {
        self.unread = 0;
        std::mem::take(&mut self.buffers).into_iter().filter_map(|buffer| buffer.descriptor)
    }
}
