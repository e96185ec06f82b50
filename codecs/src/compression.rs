//! Compressed bodies: whole bodies in, whole bodies out, never more than the caller's bound.
//!
//! gzip and zlib are libdeflate's one-shot decoder (about 1.8x of a streaming one), zstd is the reference implementation.
//! Contexts are made at first use and reused; a bomb costs at most the bound in memory.
//!
//! Large bodies are for [`Unpacking`], which does the same in steps.
//!
//! Sizes announced by a body are a hint for the first allocation, never believed beyond the bound. An empty body: formats
//! that are a row of frames (zstd, lz4, framed snappy) have none in it, so it is an empty plain body, as for the Go
//! decoders of the Collector; the others need a header, so it is broken.

mod snappy;
mod steps;

pub use steps::{STEP_BYTES, Step, Unpacking};

use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use libdeflater::{CompressionLvl, DecompressionError};
use lz4_flex::frame::FrameDecoder;
use zstd::zstd_safe::{self, CParameter, DCtx, DParameter, InBuffer, OutBuffer};

/// How a body is encoded on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// As it is (`identity`).
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// RFC 1950.
    Zlib,
    /// RFC 1950 under the name that HTTP has for it (RFC 9110, 8.4.1.2). Raw deflate, which some senders mean by it, is not
    /// read, as in the Collector.
    Deflate,
    /// Snappy as one block. A framed body is read as well: which of both the name means differs between senders.
    Snappy,
    /// Snappy in its framing format.
    SnappyFramed,
    /// LZ4 in its frame format.
    Lz4,
}

impl Compression {
    /// The name in `content-encoding`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Zlib => "zlib",
            Self::Deflate => "deflate",
            Self::Snappy => "snappy",
            Self::SnappyFramed => "x-snappy-framed",
            Self::Lz4 => "lz4",
        }
    }

    /// The name in `grpc-encoding`: there `snappy` is the framing format, as the Collector's gRPC library has it.
    #[must_use]
    pub fn grpc_name(self) -> &'static str {
        if self == Self::SnappyFramed { Self::Snappy.name() } else { self.name() }
    }

    /// The compression of a name in a header or a configuration, in any case; `none` and the empty name are
    /// [`Compression::None`]. `None` if it is not supported.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name.is_empty() || name.eq_ignore_ascii_case("none") {
            return Some(Self::None);
        }
        ALL.into_iter().find(|compression| name.eq_ignore_ascii_case(compression.name()))
    }

    /// The compression of a name in `grpc-encoding`: those that the Collector registers there, gzip, zstd and snappy.
    #[must_use]
    pub fn from_grpc_name(name: &str) -> Option<Self> {
        let known = [Self::None, Self::Gzip, Self::Zstd, Self::Snappy];
        Self::from_name(name).filter(|compression| known.contains(compression))
    }
}

const ALL: [Compression; 8] = [
    Compression::None,
    Compression::Gzip,
    Compression::Zstd,
    Compression::Zlib,
    Compression::Deflate,
    Compression::Snappy,
    Compression::SnappyFramed,
    Compression::Lz4,
];

/// Why a body could not be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// The plain body exceeds the bound.
    #[error("larger than {bytes_max} bytes once decompressed")]
    TooLarge {
        /// The bound.
        bytes_max: usize,
    },
    /// The bytes are not what their encoding says.
    #[error("not valid {}", .0.name())]
    Broken(Compression),
}

/// Decompresses bodies; one per shard.
#[derive(Default)]
pub struct Decompressor {
    /// For gzip and zlib.
    inflate: Option<libdeflater::Decompressor>,
    zstd: Option<DCtx<'static>>,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { inflate, zstd } = self;
        f.debug_struct("Decompressor").field("inflate", &inflate.is_some()).field("zstd", &zstd.is_some()).finish()
    }
}

impl Decompressor {
    /// Memory its contexts hold, in bytes, as far as they tell: those of zstd.
    pub fn bytes_held(&self) -> usize {
        self.zstd.as_ref().map_or(0, DCtx::sizeof)
    }

    /// Replaces the contents of `out` by the plain body, at most `bytes_max` bytes. After an error `out` is empty.
    ///
    /// `out` keeps its memory. Handing it back with its old contents saves clearing them for gzip.
    ///
    /// # Errors
    /// The body is broken or too large.
    pub fn decompress(
        &mut self,
        compression: Compression,
        body: &[u8],
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecompressError> {
        let result = match compression {
            Compression::None => copy(body, bytes_max, out),
            Compression::Gzip => self.gunzip(body, bytes_max, out),
            Compression::Zstd => self.unzstd(body, bytes_max, out),
            Compression::Zlib | Compression::Deflate => self.inflate(compression, body, bytes_max, out),
            Compression::Snappy if !body.starts_with(SNAPPY_STREAM_IDENTIFIER) => unsnap_block(body, bytes_max, out),
            Compression::Snappy | Compression::SnappyFramed => unsnap_frames(compression, body, bytes_max, out),
            Compression::Lz4 => unlz4(body, bytes_max, out),
        };
        if result.is_err() {
            out.clear();
        }
        result
    }

    /// Several members go to the streaming decoder.
    fn gunzip(&mut self, body: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
        self.inflate(Compression::Gzip, body, bytes_max, out)?;
        if is_single_member(body, out) {
            return Ok(());
        }
        gunzip_members(body, bytes_max, out)
    }

    /// The one-shot decoder with a guessed size, grown until it fits.
    fn inflate(
        &mut self,
        compression: Compression,
        body: &[u8],
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), DecompressError> {
        let inflate = self.inflate.get_or_insert_with(libdeflater::Decompressor::new);
        let is_gzip = compression == Compression::Gzip;
        let guess = if is_gzip { gunzip_guess(body) } else { body.len().saturating_mul(6) };
        let mut size = guess.min(bytes_max);
        loop {
            out.resize(size, 0);
            let read = if is_gzip { inflate.gzip_decompress(body, out) } else { inflate.zlib_decompress(body, out) };
            match read {
                Ok(length) => {
                    out.truncate(length);
                    return Ok(());
                }
                Err(DecompressionError::BadData) => return Err(DecompressError::Broken(compression)),
                Err(DecompressionError::InsufficientSpace) if size >= bytes_max => {
                    return Err(DecompressError::TooLarge { bytes_max });
                }
                Err(DecompressionError::InsufficientSpace) => size = size.saturating_mul(4).max(1024).min(bytes_max),
            }
        }
    }

    fn unzstd(&mut self, body: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
        let broken = DecompressError::Broken(Compression::Zstd);
        let too_large = DecompressError::TooLarge { bytes_max };
        let context = self.zstd.get_or_insert_with(DCtx::create);
        // A body that failed half way must not colour the next one.
        context.init().map_err(|_| broken)?;
        context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).map_err(|_| broken)?;
        out.clear();
        out.reserve(unzstd_guess(body, bytes_max).ok_or(too_large)?);
        let mut input = InBuffer::around(body);
        let mut left_in_frame = 0;
        while input.pos() < body.len() || left_in_frame > 0 {
            if out.len() == out.capacity() {
                if out.len() > bytes_max {
                    return Err(too_large);
                }
                // One byte beyond the bound tells "exactly the bound" from "more".
                out.reserve_exact(out.len().saturating_mul(3).max(1024).min(bytes_max.saturating_add(1) - out.len()));
            }
            let position = out.len();
            let mut output = OutBuffer::around_pos(out, position);
            left_in_frame = context.decompress_stream(&mut output, &mut input).map_err(|_| broken)?;
            // No input is left, there is room, and the frame wants more: it was cut.
            let has_room = output.pos() < output.capacity();
            if left_in_frame > 0 && has_room && input.pos() == body.len() {
                return Err(broken);
            }
        }
        if out.len() > bytes_max { Err(too_large) } else { Ok(()) }
    }
}

/// Largest zstd window, 32 MiB: what the strongest level of the Go encoder announces. The decoder holds a window only
/// for bodies that do not announce their size.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;

fn copy(body: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
    if body.len() > bytes_max {
        return Err(DecompressError::TooLarge { bytes_max });
    }
    out.clear();
    out.extend_from_slice(body);
    Ok(())
}

/// The size that the last member announces, if deflate can reach it at all (1032:1), else a usual ratio.
fn gunzip_guess(body: &[u8]) -> usize {
    let announced = body.last_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size) as usize);
    if announced <= body.len().saturating_mul(1032) { announced } else { body.len().saturating_mul(6) }
}

/// Whether `body` ends where its first member `plain` ends. libdeflate does not say, so: the body must end with the size
/// of `plain`, as its trailer does, and nothing that could start another member may follow (one with contents of the same
/// size ends alike). A chance match costs a second, slower decoding.
fn is_single_member(body: &[u8], plain: &[u8]) -> bool {
    body.last_chunk::<4>() == Some(&(plain.len() as u32).to_le_bytes()) && !holds_member_start(&body[1..])
}

/// Two bytes are compared at each place of a block without a branch, which the compiler makes wide; the third is looked
/// at in the one block of a thousand where they match.
fn holds_member_start(bytes: &[u8]) -> bool {
    const BLOCK: usize = 64;
    let next = bytes.get(1..).unwrap_or_default();
    bytes.chunks(BLOCK).zip(next.chunks(BLOCK)).enumerate().any(|(number, (first, second))| {
        let pairs = first.iter().zip(second);
        let magic = pairs.fold(false, |found, (&first, &second)| found | ((first == 0x1f) & (second == 0x8b)));
        let start = number * BLOCK;
        magic && bytes[start..bytes.len().min(start + BLOCK + 2)].windows(3).any(|bytes| bytes == [0x1f, 0x8b, 8])
    })
}

/// All members, one after the other; what follows the last must be nothing, as for Go's decoder.
fn gunzip_members(body: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
    read_bounded(MultiGzDecoder::new(body), bytes_max, out).map_err(|()| DecompressError::Broken(Compression::Gzip))?;
    check_length(out, bytes_max)
}

/// What a framed snappy stream begins with (framing format, section 4.1).
const SNAPPY_STREAM_IDENTIFIER: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// No snappy block is more than this many times as large as its bytes: three bytes repeat at most 64.
const SNAPPY_RATIO_MAX: usize = 22;

fn unsnap_block(body: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
    let broken = DecompressError::Broken(Compression::Snappy);
    let announced = snap::raw::decompress_len(body).map_err(|_| broken)?;
    if announced > bytes_max {
        return Err(DecompressError::TooLarge { bytes_max });
    }
    // A few bytes must not make us clear megabytes.
    if body.is_empty() || announced > body.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(broken);
    }
    out.resize(announced, 0);
    let length = snap::raw::Decoder::new().decompress(body, out).map_err(|_| broken)?;
    out.truncate(length);
    Ok(())
}

fn unsnap_frames(
    compression: Compression,
    body: &[u8],
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    let plain = snap::read::FrameDecoder::new(body);
    read_bounded(plain, bytes_max, out).map_err(|()| DecompressError::Broken(compression))?;
    check_length(out, bytes_max)
}

/// All frames, one after the other, each with a decoder of its own: one decoder does not take a second frame with blocks of
/// another size. It stops at a block without bytes as it does at the end of a frame; what tells them apart is that a frame
/// begins with a number that no block's length can be.
fn unlz4(body: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
    let broken = DecompressError::Broken(Compression::Lz4);
    out.clear();
    let mut frames = 0;
    let mut frame = FrameDecoder::new(Whole(body));
    while let rest @ [_, ..] = frame.get_ref().0 {
        if rest.starts_with(LZ4_FRAME_MAGIC) {
            frames += 1;
            frame = FrameDecoder::new(Whole(rest));
        }
        if frames > LZ4_FRAMES_MAX {
            return Err(broken);
        }
        let room = (bytes_max - out.len()) as u64 + 1;
        (&mut frame).take(room).read_to_end(out).map_err(|_| broken)?;
        check_length(out, bytes_max)?;
    }
    Ok(())
}

/// What a frame begins with (LZ4 frame format, "General Structure of LZ4 Frame Format").
const LZ4_FRAME_MAGIC: &[u8] = &0x184d_2204_u32.to_le_bytes();

/// Frames in one LZ4 body: senders write one, and each makes room for its blocks anew.
const LZ4_FRAMES_MAX: usize = 64;

/// Bytes whose end nobody may ask for: the LZ4 decoder takes it for the end of a frame wherever it comes, and would hand
/// out half a body without a word.
struct Whole<'a>(&'a [u8]);

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() && !buffer.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.0.read(buffer)
    }
}

/// Replaces the contents of `out` by what a streaming decoder yields, stopping one byte beyond the bound.
fn read_bounded(plain: impl Read, bytes_max: usize, out: &mut Vec<u8>) -> Result<(), ()> {
    out.clear();
    plain.take((bytes_max as u64).saturating_add(1)).read_to_end(out).map(drop).map_err(drop)
}

fn check_length(out: &[u8], bytes_max: usize) -> Result<(), DecompressError> {
    if out.len() > bytes_max { Err(DecompressError::TooLarge { bytes_max }) } else { Ok(()) }
}

/// Bytes of the plain body as `body` announces them, or as a body of this length usually has: never believed, but good
/// for choosing a way to read it and a first allocation.
#[must_use]
pub fn plain_length_guess(compression: Compression, body: &[u8]) -> usize {
    let usual = body.len().saturating_mul(6);
    match compression {
        Compression::None => body.len(),
        Compression::Gzip => gunzip_guess(body),
        Compression::Zstd => match zstd_safe::get_frame_content_size(body) {
            Ok(Some(size)) => usize::try_from(size).unwrap_or(usize::MAX),
            _ => usual,
        },
        Compression::Snappy if !body.starts_with(SNAPPY_STREAM_IDENTIFIER) => {
            snap::raw::decompress_len(body).unwrap_or(usual)
        }
        Compression::Zlib
        | Compression::Deflate
        | Compression::Snappy
        | Compression::SnappyFramed
        | Compression::Lz4 => usual,
    }
}

/// The first allocation: what the first frame announces, or a usual ratio; `None` if it announces more than the bound.
fn unzstd_guess(body: &[u8], bytes_max: usize) -> Option<usize> {
    match zstd_safe::get_frame_content_size(body) {
        Ok(Some(size)) => usize::try_from(size).ok().filter(|size| *size <= bytes_max),
        _ => Some(body.len().saturating_mul(6).clamp(1, bytes_max.max(1))),
    }
}

/// Compresses bodies; one per shard.
#[derive(Default)]
pub struct Compressor {
    /// For gzip and zlib, at the level it was made for.
    deflate: Option<(i32, libdeflater::Compressor)>,
    zstd: Option<zstd_safe::CCtx<'static>>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { deflate, zstd } = self;
        f.debug_struct("Compressor").field("deflate", &deflate.is_some()).field("zstd", &zstd.is_some()).finish()
    }
}

/// Level of gzip and zlib if none is configured: on spans level 6 takes 2.2 times as long and saves 1 % of the bytes.
pub const DEFLATE_LEVEL_DEFAULT: i32 = 1;
/// zstd's level if none is configured: on spans level 3 takes 1.5 to 2.3 times as long and saves 1.5 % of the bytes.
pub const ZSTD_LEVEL_DEFAULT: i32 = 1;

impl Compressor {
    /// Memory its contexts hold, in bytes, as far as they tell: those of zstd.
    pub fn bytes_held(&self) -> usize {
        self.zstd.as_ref().map_or(0, zstd_safe::CCtx::sizeof)
    }

    /// Appends `plain`, compressed, to `out`. Levels beyond an encoder's range count as its nearest; `None` and -1 (Go's
    /// "default") are the defaults above; the range of gzip and zlib is 1 to 12, zstd's -7 to 22. Snappy and LZ4 have none.
    ///
    /// # Panics
    /// The zstd library cannot allocate its context, or a snappy block of 4 GiB: requests are bounded far below.
    pub fn compress(&mut self, compression: Compression, level: Option<i32>, plain: &[u8], out: &mut Vec<u8>) {
        match compression {
            Compression::None => out.extend_from_slice(plain),
            Compression::Gzip | Compression::Zlib | Compression::Deflate => {
                self.deflate(compression == Compression::Gzip, level, plain, out);
            }
            Compression::Zstd => self.zstd(level, plain, out),
            Compression::Snappy => snap_block(plain, out),
            Compression::SnappyFramed => snap_frames(plain, out),
            Compression::Lz4 => lz4(plain, out),
        }
    }

    fn deflate(&mut self, is_gzip: bool, level: Option<i32>, plain: &[u8], out: &mut Vec<u8>) {
        let level = level.filter(|level| *level != -1).unwrap_or(DEFLATE_LEVEL_DEFAULT).clamp(1, 12);
        if self.deflate.as_ref().is_none_or(|(made_for, _)| *made_for != level) {
            let made = libdeflater::Compressor::new(CompressionLvl::new(level).unwrap_or_default());
            self.deflate = Some((level, made));
        }
        let (_, deflate) = self.deflate.as_mut().expect("made just above");
        let start = out.len();
        let bound =
            if is_gzip { deflate.gzip_compress_bound(plain.len()) } else { deflate.zlib_compress_bound(plain.len()) };
        out.resize(start + bound, 0);
        let room = &mut out[start..];
        let written = if is_gzip { deflate.gzip_compress(plain, room) } else { deflate.zlib_compress(plain, room) };
        out.truncate(start + written.expect("the bound holds any outcome"));
    }

    fn zstd(&mut self, level: Option<i32>, plain: &[u8], out: &mut Vec<u8>) {
        let level = level.filter(|level| *level != -1).unwrap_or(ZSTD_LEVEL_DEFAULT).clamp(-7, 22);
        let context = self.zstd.get_or_insert_with(zstd_safe::CCtx::create);
        context.set_parameter(CParameter::CompressionLevel(level)).expect("the level was brought into range");
        let start = out.len();
        out.reserve(zstd_safe::compress_bound(plain.len()));
        let mut output = std::io::Cursor::new(out);
        output.set_position(start as u64);
        context.compress2(&mut output, plain).expect("the bound holds any outcome");
    }
}

fn snap_block(plain: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + snap::raw::max_compress_len(plain.len()), 0);
    let length = snap::raw::Encoder::new().compress(plain, &mut out[start..]).expect("the bound holds any outcome");
    out.truncate(start + length);
}

/// The stream identifier comes with the first data; of no data a stream is nothing at all, which readers take for empty.
fn snap_frames(plain: &[u8], out: &mut Vec<u8>) {
    let mut frames = snap::write::FrameEncoder::new(out);
    frames.write_all(plain).and_then(|()| frames.flush()).expect("memory takes everything");
}

fn lz4(plain: &[u8], out: &mut Vec<u8>) {
    let mut frame = lz4_flex::frame::FrameEncoder::new(out);
    frame.write_all(plain).expect("memory takes everything");
    frame.finish().expect("memory takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those whose bodies have frames or members that may follow each other.
    const ROWS: [Compression; 4] = [Compression::Gzip, Compression::Zstd, Compression::SnappyFramed, Compression::Lz4];
    const COMPRESSED: [Compression; 7] = {
        let [_, compressed @ ..] = ALL;
        compressed
    };
    const BYTES_MAX: usize = 1 << 20;

    fn compressed(compression: Compression, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Compressor::default().compress(compression, None, plain, &mut out);
        out
    }

    /// Text that repeats, but not too well.
    fn text(length: usize) -> Vec<u8> {
        (0..length).map(|index| b"http.method GET 200 /cart"[(index * index / 7) % 25]).collect()
    }

    fn check(compression: Compression, body: &[u8], bytes_max: usize, expected: Result<&[u8], DecompressError>) {
        let mut decompressor = Decompressor::default();
        for mut out in [Vec::new(), vec![7; 3], vec![7; 2 << 20]] {
            let result = decompressor.decompress(compression, body, bytes_max, &mut out);
            assert_eq!(result.map(|()| &out[..]), expected, "{compression:?}");
            assert!(result.is_ok() || out.is_empty());
        }
        assert_eq!(unpack(compression, body, bytes_max), expected.map(<[u8]>::to_vec), "{compression:?} in steps");
    }

    /// The same in steps, none of which gives more than it may.
    fn unpack(compression: Compression, body: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
        let (mut unpacking, mut out) = (Unpacking::begin(compression, body, bytes_max), Vec::new());
        let refused = unpacking.step(&mut out);
        let mut step = refused;
        let mut before = 0;
        while step? == Step::More {
            // Elements of a snappy block are taken whole.
            assert!(out.len() - before <= STEP_BYTES + 64, "{compression:?} gives {} at once", out.len() - before);
            before = out.len();
            step = unpacking.step(&mut out);
            assert!(step.is_ok() || out.is_empty());
        }
        Ok(out)
    }

    #[test]
    fn bodies_survive_the_round_trip_at_every_size_and_level() {
        let mut compressor = Compressor::default();
        let mut decompressor = Decompressor::default();
        let mut plain = Vec::new();
        for length in [0, 1, 100, 1000, 65_535, 65_536, 300_000] {
            for compression in ALL {
                for level in [None, Some(-1), Some(0), Some(6), Some(100)] {
                    let mut body = b"kept".to_vec();
                    compressor.compress(compression, level, &text(length), &mut body);
                    assert!(body.starts_with(b"kept"));
                    decompressor.decompress(compression, &body[4..], BYTES_MAX, &mut plain).unwrap();
                    assert_eq!(plain, text(length));
                }
            }
        }
    }

    #[test]
    fn the_bound_is_exact() {
        for compression in ALL {
            let plain = text(5000);
            let body = compressed(compression, &plain);
            check(compression, &body, 5000, Ok(&plain));
            check(compression, &body, 4999, Err(DecompressError::TooLarge { bytes_max: 4999 }));
            check(compression, &body, 0, Err(DecompressError::TooLarge { bytes_max: 0 }));
        }
    }

    #[test]
    fn a_bomb_stops_at_the_bound() {
        let zeros = vec![0; 64 << 20];
        let too_large = Err(DecompressError::TooLarge { bytes_max: BYTES_MAX });
        for compression in COMPRESSED {
            check(compression, &compressed(compression, &zeros), BYTES_MAX, too_large);
        }
        // Without an announced size, and with a false one.
        check(Compression::Zstd, &zstd::stream::encode_all(&zeros[..], 1).unwrap(), BYTES_MAX, too_large);
        let mut lying = compressed(Compression::Gzip, &zeros);
        let end = lying.len() - 4;
        lying[end..].copy_from_slice(&10_u32.to_le_bytes());
        check(Compression::Gzip, &lying, BYTES_MAX, too_large);
    }

    #[test]
    fn several_members_or_frames_are_one_body() {
        for compression in ROWS {
            // Equal members have equal trailers: the case that a look at the last trailer alone would get wrong.
            for (first, second) in [(text(900), text(900)), (text(10), text(50_000)), (text(50_000), Vec::new())] {
                let body = [compressed(compression, &first), compressed(compression, &second)].concat();
                check(compression, &body, BYTES_MAX, Ok(&[first, second].concat()));
            }
        }
        let zeros = compressed(Compression::Gzip, &vec![0; BYTES_MAX]);
        let too_large = Err(DecompressError::TooLarge { bytes_max: BYTES_MAX });
        check(Compression::Gzip, &[&zeros[..], &zeros].concat(), BYTES_MAX, too_large);
    }

    #[test]
    fn bodies_of_streaming_encoders_are_read() {
        let plain = text(200_000);
        let zstd = zstd::stream::encode_all(&plain[..], 3).unwrap();
        check(Compression::Zstd, &zstd, BYTES_MAX, Ok(&plain));
        let mut gzip = Vec::new();
        flate2::bufread::GzEncoder::new(&plain[..], flate2::Compression::new(6)).read_to_end(&mut gzip).unwrap();
        check(Compression::Gzip, &gzip, BYTES_MAX, Ok(&plain));
    }

    #[test]
    fn a_zstd_window_counts_against_its_bound_only_if_it_must_be_held() {
        let plain = text(5000);
        let streamed = |window_log: u32| {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(window_log).unwrap();
            // Flushed in the middle, so that the encoder cannot announce the size.
            encoder.write_all(&plain[..100]).unwrap();
            encoder.flush().unwrap();
            encoder.write_all(&plain[100..]).unwrap();
            encoder.finish().unwrap()
        };
        check(Compression::Zstd, &streamed(ZSTD_WINDOW_LOG_MAX), BYTES_MAX, Ok(&plain));
        let broken = Err(DecompressError::Broken(Compression::Zstd));
        check(Compression::Zstd, &streamed(ZSTD_WINDOW_LOG_MAX + 1), BYTES_MAX, broken);
    }

    #[test]
    fn a_body_cut_anywhere_is_broken() {
        for compression in COMPRESSED {
            let body = compressed(compression, &text(3000));
            let mut out = Vec::new();
            let mut decompressor = Decompressor::default();
            for length in 0..body.len() {
                let result = decompressor.decompress(compression, &body[..length], BYTES_MAX, &mut out);
                // A row of no frames is an empty body, and so is one cut after a whole frame.
                let is_row = compression != Compression::Gzip && ROWS.contains(&compression);
                let is_identifier = compression == Compression::SnappyFramed && length == 10;
                assert_eq!(result.is_ok(), is_row && length == 0 || is_identifier, "{compression:?} cut at {length}");
            }
            decompressor.decompress(compression, &body, BYTES_MAX, &mut out).unwrap();
            assert_eq!(out, text(3000), "broken bodies leave no trace in the decompressor");
        }
    }

    #[test]
    fn what_follows_the_last_member_is_not_accepted() {
        for compression in ROWS {
            for garbage in [&b"\0"[..], b"garbage", &[0x1f, 0x8b, 8, 0], &[0; 600]] {
                let body = [&compressed(compression, &text(3000)), garbage].concat();
                check(compression, &body, BYTES_MAX, Err(DecompressError::Broken(compression)));
            }
        }
    }

    #[test]
    fn flipped_bits_never_panic() {
        for compression in COMPRESSED {
            let body = compressed(compression, &text(500));
            let mut decompressor = Decompressor::default();
            let mut out = Vec::new();
            for bit in 0..body.len() * 8 {
                let mut broken = body.clone();
                broken[bit / 8] ^= 1 << (bit % 8);
                // Some bits mean nothing (a gzip header's time); what is accepted stays within the bound.
                if decompressor.decompress(compression, &broken, 4096, &mut out).is_ok() {
                    assert!(out.len() <= 4096);
                }
            }
        }
    }

    #[test]
    fn snappy_is_read_framed_or_not() {
        let plain = text(100_000);
        check(Compression::Snappy, &compressed(Compression::SnappyFramed, &plain), BYTES_MAX, Ok(&plain));
        check(Compression::Snappy, &compressed(Compression::Snappy, &plain), BYTES_MAX, Ok(&plain));
        let broken = Err(DecompressError::Broken(Compression::SnappyFramed));
        check(Compression::SnappyFramed, &compressed(Compression::Snappy, &plain), BYTES_MAX, broken);
    }

    #[test]
    fn a_snappy_block_that_announces_more_than_it_can_hold_is_refused_before_it_gets_memory() {
        // Varints: 1 MiB, 4 GiB - 1.
        let broken = Err(DecompressError::Broken(Compression::Snappy));
        check(Compression::Snappy, &[0x80, 0x80, 0x40, 0, 0], BYTES_MAX, broken);
        let too_large = Err(DecompressError::TooLarge { bytes_max: BYTES_MAX });
        check(Compression::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0], BYTES_MAX, too_large);
        check(Compression::Snappy, &[], BYTES_MAX, broken);
    }

    #[test]
    fn lz4_frames_may_have_blocks_of_different_sizes_but_not_be_endless() {
        let of_size = |block_size| {
            let info = lz4_flex::frame::FrameInfo::new().block_size(block_size);
            let mut frame = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
            frame.write_all(&text(100_000)).unwrap();
            frame.finish().unwrap()
        };
        use lz4_flex::frame::BlockSize;
        let body = [of_size(BlockSize::Max64KB), of_size(BlockSize::Max4MB), of_size(BlockSize::Max64KB)].concat();
        check(Compression::Lz4, &body, BYTES_MAX, Ok(&text(100_000).repeat(3)));
        let small = compressed(Compression::Lz4, b"x");
        check(Compression::Lz4, &small.repeat(LZ4_FRAMES_MAX), BYTES_MAX, Ok(&[b'x'; LZ4_FRAMES_MAX]));
        let broken = Err(DecompressError::Broken(Compression::Lz4));
        check(Compression::Lz4, &small.repeat(LZ4_FRAMES_MAX + 1), BYTES_MAX, broken);
    }

    #[test]
    fn a_bound_below_the_first_guess_is_no_mistake() {
        let body = compressed(Compression::Zlib, &[0; 900]);
        let too_large = |bytes_max| Err(DecompressError::TooLarge { bytes_max });
        check(Compression::Zlib, &body, 899, too_large(899));
        check(Compression::Zlib, &body, 900, Ok(&[0; 900]));
    }

    #[test]
    fn zlib_of_a_streaming_encoder_is_read_and_raw_deflate_is_not() {
        let plain = text(200_000);
        let mut body = Vec::new();
        flate2::bufread::ZlibEncoder::new(&plain[..], flate2::Compression::new(6)).read_to_end(&mut body).unwrap();
        check(Compression::Deflate, &body, BYTES_MAX, Ok(&plain));
        check(Compression::Zlib, &body, BYTES_MAX, Ok(&plain));
        let mut body = Vec::new();
        flate2::bufread::DeflateEncoder::new(&plain[..], flate2::Compression::new(6)).read_to_end(&mut body).unwrap();
        check(Compression::Deflate, &body, BYTES_MAX, Err(DecompressError::Broken(Compression::Deflate)));
    }

    #[test]
    fn names_are_those_of_headers_and_configurations() {
        for (name, compression) in [
            ("gzip", Some(Compression::Gzip)),
            ("GZIP", Some(Compression::Gzip)),
            ("zstd", Some(Compression::Zstd)),
            ("identity", Some(Compression::None)),
            ("none", Some(Compression::None)),
            ("", Some(Compression::None)),
            ("Deflate", Some(Compression::Deflate)),
            ("zlib", Some(Compression::Zlib)),
            ("snappy", Some(Compression::Snappy)),
            ("x-snappy-framed", Some(Compression::SnappyFramed)),
            ("lz4", Some(Compression::Lz4)),
            ("br", None),
        ] {
            assert_eq!(Compression::from_name(name), compression, "{name}");
        }
        for compression in ALL {
            assert_eq!(Compression::from_name(compression.name()), Some(compression));
        }
        for (name, compression) in [
            ("snappy", Some(Compression::Snappy)),
            ("identity", Some(Compression::None)),
            ("deflate", None),
            ("lz4", None),
            ("x-snappy-framed", None),
        ] {
            assert_eq!(Compression::from_grpc_name(name), compression, "{name}");
        }
        assert_eq!(Compression::SnappyFramed.grpc_name(), "snappy");
    }
}
