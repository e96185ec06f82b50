//! Compresses requests the way SDKs do: gzip at zlib's default level, zstd at its default.

use std::io;

use codecs::compression::Compression;

/// zlib's default, which grpc-go, Java and Python use.
const GZIP_LEVEL: i32 = 6;

/// The library's default.
const ZSTD_LEVEL: i32 = 3;

/// A compressor and its memory.
pub(crate) enum Compressor {
    /// Copies.
    None,
    /// RFC 1952.
    Gzip(libdeflater::Compressor),
    /// RFC 8878.
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Compressor {
    /// A compressor at the level stated above.
    pub(crate) fn new(compression: Compression) -> io::Result<Compressor> {
        Ok(match compression {
            Compression::None => Compressor::None,
            Compression::Gzip => Compressor::Gzip(libdeflater::Compressor::new(
                libdeflater::CompressionLvl::new(GZIP_LEVEL).expect("6 is a level of libdeflate"),
            )),
            Compression::Zstd => Compressor::Zstd(Box::new(zstd::bulk::Compressor::new(ZSTD_LEVEL)?)),
        })
    }

    /// Compresses one body.
    pub(crate) fn compress(&mut self, body: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Compressor::None => Ok(body.to_vec()),
            Compressor::Zstd(compressor) => compressor.compress(body),
            Compressor::Gzip(compressor) => {
                let mut compressed = vec![0; compressor.gzip_compress_bound(body.len())];
                let length = compressor.gzip_compress(body, &mut compressed).map_err(io::Error::other)?;
                compressed.truncate(length);
                Ok(compressed)
            }
        }
    }
}

/// The value of `grpc-encoding` and `content-encoding`; `None` for plain bodies.
pub(crate) fn encoding_name(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::None => None,
        Compression::Gzip => Some("gzip"),
        Compression::Zstd => Some("zstd"),
    }
}
