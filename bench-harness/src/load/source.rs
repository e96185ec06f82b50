//! Bytes of requests, encoded beforehand.
//!
//! Plain requests are templates whose ids are patched in place; buffers come back after the answer and are used again,
//! so that memory stays warm. Compressed bytes cannot be patched: all requests of a run are compressed before it starts,
//! each with ids of its own, on as many threads as there are cores.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use codecs::compression::Compression;

use super::compressor::Compressor;
use crate::sent::Sent;
use crate::traces::FRAME_PREFIX;

/// Where requests come from.
pub(crate) enum Source {
    /// Patched when sent.
    Plain {
        /// Where ids go.
        sent: Rc<Sent>,
        /// Buffers that came back, by template.
        free: RefCell<Vec<Vec<BytesMut>>>,
    },
    /// Compressed before the run.
    Prepared(Rc<Vec<Bytes>>),
}

impl Source {
    /// Requests without compression, as many as wanted.
    pub(crate) fn plain(sent: Rc<Sent>) -> Source {
        let free = (0..sent.templates()).map(|_| Vec::new()).collect();
        Source::Plain { sent, free: RefCell::new(free) }
    }

    /// How many requests there are.
    pub(crate) fn requests_max(&self) -> u64 {
        match self {
            Source::Plain { .. } => u64::MAX,
            Source::Prepared(requests) => requests.len() as u64,
        }
    }

    /// About how large one is.
    pub(crate) fn request_bytes(&self) -> usize {
        match self {
            Source::Plain { sent, .. } => sent.template_bytes(0).len(),
            Source::Prepared(requests) => requests.first().map_or(1, Bytes::len),
        }
    }

    /// Request number `number` with its own ids: a gRPC message with its prefix.
    pub(crate) fn take(&self, number: u64) -> Bytes {
        match self {
            Source::Prepared(requests) => requests[number as usize].clone(),
            Source::Plain { sent, free } => {
                let template = sent.template(number);
                let reused = free.borrow_mut()[template].pop();
                let mut bytes = reused.unwrap_or_else(|| BytesMut::from(sent.template_bytes(template)));
                sent.fill(number, &mut bytes);
                bytes.freeze()
            }
        }
    }

    /// Takes a request's bytes back once it was answered. If the connection still holds them they are left to it.
    pub(crate) fn give_back(&self, number: u64, bytes: Bytes) {
        if let Source::Plain { sent, free } = self
            && let Ok(bytes) = bytes.try_into_mut()
        {
            free.borrow_mut()[sent.template(number)].push(bytes);
        }
    }
}

/// Compresses requests 0 to `requests`, each with its own ids.
pub(crate) fn prepare(sent: &Sent, requests: u64, compression: Compression) -> io::Result<Vec<Bytes>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(0);
    let mut numbered = std::thread::scope(|scope| {
        let work = || prepare_some(sent, requests, compression, &next);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut numbered = Vec::with_capacity(requests as usize);
        for worker in workers {
            numbered.extend(worker.join().expect("compressing our own bytes does not panic")?);
        }
        io::Result::Ok(numbered)
    })?;
    numbered.sort_unstable_by_key(|(number, _)| *number);
    Ok(numbered.into_iter().map(|(_, bytes)| bytes).collect())
}

fn prepare_some(
    sent: &Sent,
    requests: u64,
    compression: Compression,
    next: &AtomicU64,
) -> io::Result<Vec<(u64, Bytes)>> {
    let mut compressor = Compressor::new(compression);
    let mut done = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= requests {
            return Ok(done);
        }
        let mut bytes = sent.template_bytes(sent.template(number)).to_vec();
        sent.fill(number, &mut bytes);
        let body = compressor.compress(&bytes[FRAME_PREFIX..]);
        let mut message = Vec::with_capacity(FRAME_PREFIX + body.len());
        message.push(1);
        message.extend_from_slice(&(body.len() as u32).to_be_bytes());
        message.extend_from_slice(&body);
        done.push((number, Bytes::from(message)));
    }
}
