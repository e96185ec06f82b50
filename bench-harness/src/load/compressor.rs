//! Compresses requests the way SDKs do: gzip at zlib's default level, zstd at its default.

use codecs::compression::{Compression, Compressor as Encoder};

/// zlib's default, which grpc-go, Java and Python use.
const GZIP_LEVEL: i32 = 6;

/// The library's default.
const ZSTD_LEVEL: i32 = 3;

/// A compressor and its memory.
pub(crate) struct Compressor {
    compression: Compression,
    encoder: Encoder,
}

impl Compressor {
    /// A compressor at the level stated above.
    pub(crate) fn new(compression: Compression) -> Compressor {
        Compressor { compression, encoder: Encoder::default() }
    }

    /// Compresses one body.
    pub(crate) fn compress(&mut self, body: &[u8]) -> Vec<u8> {
        let level = match self.compression {
            Compression::Gzip => Some(GZIP_LEVEL),
            Compression::Zstd => Some(ZSTD_LEVEL),
            _ => None,
        };
        let mut compressed = Vec::new();
        self.encoder.compress(self.compression, level, body, &mut compressed);
        compressed
    }
}

/// The value of `grpc-encoding` and `content-encoding`; `None` for plain bodies.
pub(crate) fn encoding_name(compression: Compression) -> Option<&'static str> {
    (compression != Compression::None).then(|| compression.name())
}
