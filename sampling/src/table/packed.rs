//! Chunks that are compressed because memory is short: what waits longest costs least.
//!
//! ```text
//! chunk:   [span span span ... | span span ... | ...]     256 KiB
//!            v                    v                       blocks of a quarter or so, ends where a span ends
//! packed:  [zstd frame           |zstd frame   | ...]     a quarter or less, and where each block begins
//! read:    one block, unpacked and left open for the spans that are read next
//! ```
//!
//! The idea: most pending spans are dropped without anybody reading them again, so they are packed once and forgotten
//! packed. Spans that are kept are read back in blocks: traces are decided in the order in which they began, so that their
//! spans lie in the blocks of a short time, and those are open. The packed bytes stay what they are; open blocks are copies
//! and may go at any time, the first opened first. All of it is computing: bytes in, bytes out.

use std::collections::VecDeque;

use codecs::compression::{Compression, Compressor, Decompressor};

/// Level of zstd: on spans higher ones take longer and save next to nothing.
const LEVEL: i32 = 1;

/// Memory of open blocks: so many chunks, or this part of what was packed before it was. Spans of one trace come within a
/// small part of the time that they wait, so what is being decided fits.
const OPEN_CHUNKS: usize = 4;
const OPEN_PART: usize = 16;

/// Blocks of one chunk, about. In larger ones spans have more in common, and each takes longer to open.
const BLOCKS: usize = 4;

/// No block is larger than a chunk, and no chunk than this.
const BLOCK_BYTES_MAX: usize = 1 << 30;

/// What a packed chunk must save at least, in parts of its bytes: otherwise it stays as it is.
const SAVING_MIN: usize = 4;

/// Bytes of blocks to leave open where so many chunks are packed.
pub(super) fn open_max(chunks: usize, chunk_bytes: usize) -> usize {
    (chunks / OPEN_PART).max(OPEN_CHUNKS) * chunk_bytes
}

/// The filled part of a chunk, compressed.
#[derive(Debug)]
pub(super) struct Packed {
    bytes: Box<[u8]>,
    blocks: Box<[Block]>,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    /// Where it begins in the chunk.
    start: u32,
    /// Where its frame begins among the packed bytes.
    frame: u32,
    /// Its number among the blocks ever opened, from 1 on; 0: never. It may be closed by now.
    opened: u64,
}

/// A block as it was before it was packed.
#[derive(Debug, Default)]
struct Open {
    start: u32,
    bytes: Vec<u8>,
}

/// Packs chunks and opens their blocks.
#[derive(Debug, Default)]
pub(super) struct Packer {
    compressor: Compressor,
    decompressor: Decompressor,
    frames: Vec<u8>,
    blocks: Vec<Block>,
    /// The blocks opened last, in the order of their numbers.
    open: VecDeque<Open>,
    /// Their memory.
    open_bytes: usize,
    /// Blocks opened so far: each took as long as copying some hundred spans.
    opened: u64,
}

impl Packed {
    /// Memory it takes: allocators give a block of the next of four sizes between powers of two.
    pub(super) fn bytes(&self) -> usize {
        let bytes = self.bytes.len().max(8);
        let step = (bytes.next_power_of_two() / 8).max(1);
        bytes.next_multiple_of(step) + self.blocks.len() * size_of::<Block>() + size_of::<Self>()
    }

    fn block_at(&self, offset: u32) -> usize {
        self.blocks.partition_point(|block| block.start <= offset) - 1
    }

    fn frame(&self, block: usize) -> &[u8] {
        let end = self.blocks.get(block + 1).map_or(self.bytes.len(), |next| next.frame as usize);
        &self.bytes[self.blocks[block].frame as usize..end]
    }
}

impl Packer {
    /// Compresses what is filled of a chunk; `size_at` says how long the span at an offset is. `None`: it saves too little.
    pub(super) fn pack(&mut self, filled: &[u8], size_at: impl Fn(&[u8]) -> usize) -> Option<Packed> {
        self.frames.clear();
        self.blocks.clear();
        let block_bytes = filled.len().div_ceil(BLOCKS);
        let mut start = 0;
        while start < filled.len() {
            let mut end = start;
            while end < filled.len() && end - start < block_bytes {
                end += size_at(&filled[end..]);
            }
            self.blocks.push(Block { start: start as u32, frame: self.frames.len() as u32, opened: 0 });
            self.compressor.compress(Compression::Zstd, Some(LEVEL), &filled[start..end], &mut self.frames);
            start = end;
        }
        let saved = filled.len().saturating_sub(self.frames.len());
        (saved >= filled.len() / SAVING_MIN)
            .then(|| Packed { bytes: self.frames.as_slice().into(), blocks: self.blocks.as_slice().into() })
    }

    /// The block with this offset, from its start on, and where it starts. `open_max`: bytes of blocks left open beside it.
    #[inline]
    pub(super) fn open(&mut self, packed: &mut Packed, offset: u32, open_max: usize) -> (&[u8], u32) {
        let block = packed.block_at(offset);
        // Numbers are never used again, so one that is among the open ones is this block's.
        let first = self.opened + 1 - self.open.len() as u64;
        if packed.blocks[block].opened < first {
            self.unpack(packed, block, open_max);
        }
        let first = self.opened + 1 - self.open.len() as u64;
        let open = &self.open[(packed.blocks[block].opened - first) as usize];
        (&open.bytes, open.start)
    }

    #[cold]
    fn unpack(&mut self, packed: &mut Packed, block: usize, open_max: usize) {
        let mut bytes = Vec::new();
        while self.open_bytes > open_max
            && let Some(first) = self.open.pop_front()
        {
            self.open_bytes -= first.bytes.capacity();
            bytes = first.bytes;
        }
        let unpacked =
            self.decompressor.decompress(Compression::Zstd, packed.frame(block), BLOCK_BYTES_MAX, &mut bytes);
        unpacked.expect("nobody changes packed bytes");
        self.opened += 1;
        self.open_bytes += bytes.capacity();
        packed.blocks[block].opened = self.opened;
        self.open.push_back(Open { start: packed.blocks[block].start, bytes });
    }

    /// Blocks opened so far.
    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    /// Nothing is packed any more: gives its memory back.
    pub(super) fn rest(&mut self) {
        *self = Self { opened: self.opened, ..Self::default() };
    }

    pub(super) fn bytes(&self) -> usize {
        self.open_bytes
            + self.open.capacity() * size_of::<Open>()
            + self.frames.capacity()
            + self.blocks.capacity() * size_of::<Block>()
            + self.compressor.bytes_held()
            + self.decompressor.bytes_held()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Spans" of ten bytes and a length before them.
    fn chunk() -> Vec<u8> {
        (0..3_000u32).flat_map(|n| [&[14, 0, 0, 0][..], &n.to_le_bytes(), b"sixsix"].concat()).collect()
    }

    #[test]
    fn every_span_is_read_back_from_its_block_in_any_order() {
        let (chunk, mut packer) = (chunk(), Packer::default());
        let mut packed = packer.pack(&chunk, |span| usize::from(span[0])).expect("it repeats itself");
        assert!(packed.bytes() < chunk.len() / 2);
        assert_eq!(packed.blocks.len(), BLOCKS);
        for turn in 0..6_000u32 {
            let offset = turn.wrapping_mul(2_654_435_761) % 3_000 * 14;
            let (block, start) = packer.open(&mut packed, offset, chunk.len());
            let at = (offset - start) as usize;
            assert_eq!(block[at..at + 14], chunk[offset as usize..offset as usize + 14]);
        }
        assert_eq!(packer.opened(), BLOCKS as u64, "each is opened once while there is room");
    }

    #[test]
    fn open_blocks_are_few_however_many_chunks_are_read() {
        let (chunk, mut packer) = (chunk(), Packer::default());
        let pack = |packer: &mut Packer| packer.pack(&chunk, |span| usize::from(span[0])).expect("it repeats itself");
        let mut packed: Vec<Packed> = (0..100).map(|_| pack(&mut packer)).collect();
        for _ in 0..2 {
            for packed in &mut packed {
                for offset in [0, 2_999 * 14, 14] {
                    let (block, start) = packer.open(packed, offset, 2 * chunk.len());
                    assert_eq!(block[(offset - start) as usize..][..14], chunk[offset as usize..][..14]);
                }
                assert!(packer.open_bytes <= 3 * chunk.len());
            }
        }
        assert_eq!(packer.opened(), 400, "two blocks of each, in each round");
        packer.rest();
        assert_eq!((packer.bytes(), packer.opened()), (0, 400));
        packer.open(&mut packed[99], 0, 0);
        assert_eq!(packer.opened(), 401);
    }

    #[test]
    fn what_cannot_be_compressed_is_left_alone() {
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(40_000)
        .collect();
        assert!(Packer::default().pack(&noise, |_| 100).is_none());
    }
}
