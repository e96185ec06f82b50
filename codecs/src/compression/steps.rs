//! Large bodies, decompressed step by step: what else a thread has to do can be done between two steps.
//!
//! ```text
//! body --at most STEP_BYTES at once--> decoder that waits for more --at most STEP_BYTES at once--> plain body
//! ```
//!
//! The one idea: every step is bounded on both sides. A bomb makes much of few bytes, and a body of empty blocks makes
//! nothing of many; either ends a step. Decoders of gzip, zlib and zstd stop at any byte. One chunk of framed snappy (64 KiB)
//! and one block of LZ4 (4 MiB, so said by its format) are decoded at once, since their decoders know no less.
//!
//! Slower than [`Decompressor`] for gzip, about 1.5 times. Never decides which bodies are large.

use super::snappy::Block;
use super::{
    Compression, DecompressError, LZ4_FRAME_MAGIC, LZ4_FRAMES_MAX, SNAPPY_STREAM_IDENTIFIER, Whole,
    ZSTD_WINDOW_LOG_MAX, check_length,
};
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use lz4_flex::frame::FrameDecoder;
use std::io::{self, BufRead, Read};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

#[cfg(doc)]
use super::Decompressor;

/// Bytes that a step reads or writes at most: some 50 us of work, 200 us where a body compresses badly.
pub const STEP_BYTES: usize = 64 << 10;

/// Blocks that a step looks at, at most, where they may be empty.
const STEP_BLOCKS: usize = 64;

/// Whether a body has been read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// There is more to do.
    More,
    /// That was all.
    Done,
}

/// A body that is being decompressed. It says of each body what [`Decompressor::decompress`] says, though a body that is
/// both broken and too large may be called the other.
pub struct Unpacking<'a> {
    decoder: Decoder<'a>,
    compression: Compression,
    bytes_max: usize,
}

impl std::fmt::Debug for Unpacking<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { compression, bytes_max, .. } = self;
        f.debug_struct("Unpacking")
            .field("compression", compression)
            .field("bytes_max", bytes_max)
            .finish_non_exhaustive()
    }
}

enum Decoder<'a> {
    Plain(&'a [u8]),
    Gzip(Box<MultiGzDecoder<Window<'a>>>),
    Zlib(Box<ZlibDecoder<Window<'a>>>),
    Zstd(Zstd<'a>),
    SnappyBlock(Block<'a>),
    SnappyFrames(SnappyFrames<'a>),
    Lz4(Lz4<'a>),
}

impl<'a> Unpacking<'a> {
    /// Begins with a body that may become `bytes_max` bytes.
    #[must_use]
    pub fn begin(compression: Compression, body: &'a [u8], bytes_max: usize) -> Self {
        let decoder = match compression {
            Compression::None => Decoder::Plain(body),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(Window::over(body)))),
            Compression::Zlib | Compression::Deflate => Decoder::Zlib(Box::new(ZlibDecoder::new(Window::over(body)))),
            Compression::Zstd => Decoder::Zstd(Zstd::begin(body)),
            Compression::Snappy if !body.starts_with(SNAPPY_STREAM_IDENTIFIER) => {
                Decoder::SnappyBlock(Block::begin(body))
            }
            Compression::Snappy | Compression::SnappyFramed => Decoder::SnappyFrames(SnappyFrames::begin(body)),
            Compression::Lz4 => Decoder::Lz4(Lz4::begin(body)),
        };
        Unpacking { decoder, compression, bytes_max }
    }

    /// Appends the next part of the plain body to `out`, which holds what the steps before gave. After an error `out` is
    /// empty, and there must be no further step.
    ///
    /// # Errors
    /// The body is broken or too large.
    pub fn step(&mut self, out: &mut Vec<u8>) -> Result<Step, DecompressError> {
        if let Decoder::SnappyBlock(block) = &self.decoder
            && block.announces_more_than(self.bytes_max)
        {
            out.clear();
            return Err(DecompressError::TooLarge { bytes_max: self.bytes_max });
        }
        let step = self.decode(out).map_err(|Broken| DecompressError::Broken(self.compression));
        let step = step.and_then(|step| check_length(out, self.bytes_max).map(|()| step));
        if step.is_err() {
            out.clear();
        }
        step
    }

    fn decode(&mut self, out: &mut Vec<u8>) -> Result<Step, Broken> {
        match &mut self.decoder {
            Decoder::Plain(body) => Ok(copy(body, out)),
            Decoder::Gzip(decoder) => {
                decoder.get_mut().open();
                read(decoder, out)
            }
            Decoder::Zlib(decoder) => {
                decoder.get_mut().open();
                read(decoder, out)
            }
            Decoder::Zstd(decoder) => decoder.step(out),
            Decoder::SnappyBlock(block) => block.step(out),
            Decoder::SnappyFrames(frames) => frames.step(out),
            Decoder::Lz4(frames) => frames.step(out),
        }
    }
}

/// The bytes are not what their encoding says.
pub(super) struct Broken;

fn copy(body: &mut &[u8], out: &mut Vec<u8>) -> Step {
    let (now, later) = body.split_at(body.len().min(STEP_BYTES));
    out.extend_from_slice(now);
    *body = later;
    if later.is_empty() { Step::Done } else { Step::More }
}

/// Appends what `decoder` gives at once.
fn read(mut decoder: impl Read, out: &mut Vec<u8>) -> Result<Step, Broken> {
    let before = out.len();
    out.resize(before + STEP_BYTES, 0);
    let read = decoder.read(&mut out[before..]);
    out.truncate(before + *read.as_ref().unwrap_or(&0));
    match read {
        Ok(0) => Ok(Step::Done),
        Ok(_) => Ok(Step::More),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Step::More),
        Err(_) => Err(Broken),
    }
}

/// A body of which a decoder sees so much at a time: it is told to wait for the rest.
struct Window<'a> {
    open: &'a [u8],
    later: &'a [u8],
}

impl<'a> Window<'a> {
    /// The first bytes can be seen, since decoders look at them when they are made.
    fn over(body: &'a [u8]) -> Self {
        let mut window = Window { open: &[], later: body };
        window.open();
        window
    }

    /// Shows more, if all that was shown has been read.
    fn open(&mut self) {
        if self.open.is_empty() {
            (self.open, self.later) = self.later.split_at(self.later.len().min(STEP_BYTES));
        }
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut shown = self.fill_buf()?;
        let count = shown.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Window<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.open.is_empty() && !self.later.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(self.open)
    }

    fn consume(&mut self, count: usize) {
        self.open = &self.open[count..];
    }
}

/// zstd with a context of its own, whose window (at most 32 MiB) lasts as long as the body.
struct Zstd<'a> {
    context: DCtx<'static>,
    rest: &'a [u8],
    left_in_frame: usize,
}

impl<'a> Zstd<'a> {
    fn begin(body: &'a [u8]) -> Self {
        Zstd { context: DCtx::create(), rest: body, left_in_frame: 0 }
    }

    fn step(&mut self, out: &mut Vec<u8>) -> Result<Step, Broken> {
        if out.is_empty() && self.left_in_frame == 0 {
            self.context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).map_err(|_| Broken)?;
        }
        if self.rest.is_empty() && self.left_in_frame == 0 {
            return Ok(Step::Done);
        }
        let before = out.len();
        out.resize(before + STEP_BYTES, 0);
        let mut input = InBuffer::around(&self.rest[..self.rest.len().min(STEP_BYTES)]);
        let mut output = OutBuffer::around(&mut out[before..]);
        let left = self.context.decompress_stream(&mut output, &mut input);
        let (taken, given) = (input.pos(), output.pos());
        out.truncate(before + given);
        self.left_in_frame = left.map_err(|_| Broken)?;
        self.rest = &self.rest[taken..];
        // No input is left, there is room, and the frame wants more: it was cut.
        if self.rest.is_empty() && self.left_in_frame > 0 && given < STEP_BYTES {
            return Err(Broken);
        }
        Ok(Step::More)
    }
}

/// Framed snappy. Its decoder reads chunk after chunk until one has contents, so it is shown only so many at once, and takes
/// the end of those for the end of the body: nothing is lost there, for it is between two chunks.
struct SnappyFrames<'a> {
    decoder: snap::read::FrameDecoder<&'a [u8]>,
    later: &'a [u8],
}

impl<'a> SnappyFrames<'a> {
    fn begin(body: &'a [u8]) -> Self {
        SnappyFrames { decoder: snap::read::FrameDecoder::new(&[]), later: body }
    }

    fn step(&mut self, out: &mut Vec<u8>) -> Result<Step, Broken> {
        let is_last = self.later.is_empty();
        match read(&mut self.decoder, out)? {
            // All that it was shown is read, and what it keeps is given.
            Step::Done if is_last => return Ok(Step::Done),
            Step::Done => {}
            Step::More => return Ok(Step::More),
        }
        let (now, later) = self.later.split_at(chunks_length(self.later));
        *self.decoder.get_mut() = now;
        self.later = later;
        Ok(Step::More)
    }
}

/// Bytes of the chunks in front that may be decoded in one step (framing format, section 3: a byte for the kind, three for
/// the length). A chunk that is cut belongs to them, for the decoder to refuse.
fn chunks_length(body: &[u8]) -> usize {
    let (mut length, mut chunks) = (0, 0);
    while chunks < STEP_BLOCKS
        && length < STEP_BYTES
        && let Some(&[kind, a, b, c]) = body[length..].first_chunk::<4>()
    {
        length = body.len().min(length + 4 + u32::from_le_bytes([a, b, c, 0]) as usize);
        chunks += 1;
        // Data, compressed or not.
        if kind <= 1 {
            return length;
        }
    }
    // Fewer bytes than a chunk's head.
    if chunks == 0 { body.len() } else { length }
}

/// LZ4: the frames of `unlz4`, some blocks at a time.
struct Lz4<'a> {
    frame: FrameDecoder<Whole<'a>>,
    frames: usize,
    /// What was given is all of a frame, or up to an empty block of it.
    is_between: bool,
}

impl<'a> Lz4<'a> {
    fn begin(body: &'a [u8]) -> Self {
        Lz4 { frame: FrameDecoder::new(Whole(body)), frames: 0, is_between: true }
    }

    fn step(&mut self, out: &mut Vec<u8>) -> Result<Step, Broken> {
        for _ in 0..STEP_BLOCKS {
            if self.is_between {
                let rest = self.frame.get_ref().0;
                if rest.is_empty() {
                    return Ok(Step::Done);
                }
                if rest.starts_with(LZ4_FRAME_MAGIC) {
                    self.frames += 1;
                    self.frame = FrameDecoder::new(Whole(rest));
                }
                if self.frames > LZ4_FRAMES_MAX {
                    return Err(Broken);
                }
            }
            let step = read(&mut self.frame, out)?;
            self.is_between = step == Step::Done;
            if step == Step::More {
                return Ok(Step::More);
            }
        }
        Ok(Step::More)
    }
}
