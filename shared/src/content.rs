//! The content codings of a body: a sender that compresses says how in the header `Content-Encoding`.
//!
//! Signatures are over the bytes that were sent, and so are the ledger and deliveries. Everything that looks for something in a body
//! looks into the decoded one: places of a request, expressions, contracts. The header is the sender's word, and no signature covers
//! it. So a body that cannot be decoded, and is JSON as it was sent, is read as it was sent: there are senders that say
//! `Content-Encoding: UTF-8`, and nobody who has captured a webhook can hide its event id by adding a header to it.

use std::{borrow::Cow, io::Read};

use brotli_decompressor::{BrotliDecoderParameter, Decompressor};
use flate2::{Decompress, FlushDecompress, Status, bufread::MultiGzDecoder};
use zstd::stream::read::Decoder as ZstdDecoder;

/// The header's name, as headers are kept on events.
pub const CONTENT_ENCODING: &str = "content-encoding";
/// Largest decoded body, in bytes. A few kilobytes can decode to gigabytes, and the sender may be a stranger.
pub const DECODED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most codings of one body. Each may multiply the work of the next; senders use one.
pub const CODINGS_MAX: usize = 2;
/// Longest value of the header that is read, in bytes. A longer one is not kept on the event.
pub const HEADER_BYTES_MAX: usize = crate::event::KEPT_HEADER_BYTES_MAX;

/// Largest window that a zstd body may need, as a power of two: 8 MiB, which RFC 9659 demands of every decoder and allows no more of.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// How much is decoded at a time, in bytes.
const CHUNK_BYTES: usize = 16 * 1024;

/// Why a body cannot be decoded. It tells nothing of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// A coding that nobody here can undo.
    #[error("`content-encoding` names a content coding that is not supported; gzip, deflate, br, zstd and identity are")]
    UnknownCoding,
    /// More of them than a body has.
    #[error("`content-encoding` names more than {CODINGS_MAX} content codings, or is longer than {HEADER_BYTES_MAX} bytes")]
    TooManyCodings,
    /// Cut off, damaged, or of another coding.
    #[error("the body is not valid {0}, although `content-encoding` says that it is")]
    Broken(&'static str),
    /// Perhaps a decompression bomb.
    #[error("the decoded body is longer than {DECODED_BYTES_MAX} bytes")]
    TooLarge,
}

/// One coding (RFC 9110, section 8.4.1; RFC 7932; RFC 8878).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// The body without the codings that the value of its `Content-Encoding` lists. It is borrowed where there is nothing to undo.
pub fn decode<'b>(body: &'b [u8], content_encoding: Option<&str>) -> Result<Cow<'b, [u8]>, ContentError> {
    let codings = Coding::list(content_encoding.unwrap_or_default())?;
    // A request without a body has no coding, whatever its headers say.
    if body.is_empty() {
        return Ok(Cow::Borrowed(body));
    }
    // Listed in the order in which they were applied.
    codings.iter().rev().try_fold(Cow::Borrowed(body), |body, coding| coding.decode(&body).map(Cow::Owned))
}

impl Coding {
    fn list(content_encoding: &str) -> Result<Vec<Self>, ContentError> {
        if content_encoding.len() > HEADER_BYTES_MAX {
            return Err(ContentError::TooManyCodings);
        }
        let names = content_encoding.split(',').map(str::trim);
        // An element of a list may be empty (RFC 9110, section 5.6.1.2).
        let names = names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
        let codings = names.map(|name| Self::parse(name).ok_or(ContentError::UnknownCoding)).collect::<Result<Vec<_>, _>>()?;
        if codings.len() > CODINGS_MAX { Err(ContentError::TooManyCodings) } else { Ok(codings) }
    }

    fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "br" => Some(Self::Brotli),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    fn decode(self, body: &[u8]) -> Result<Vec<u8>, ContentError> {
        let decoded = match self {
            Self::Gzip => read_bounded(MultiGzDecoder::new(body)),
            Self::Deflate => read_bounded(Inflate::new(body)),
            Self::Brotli => read_bounded(Brotli::new(body)),
            Self::Zstd => zstd(body).map_err(|_| Stopped::Broken).and_then(read_bounded),
        };
        decoded.map_err(|stopped| match stopped {
            Stopped::Broken => ContentError::Broken(self.name()),
            Stopped::TooLarge => ContentError::TooLarge,
        })
    }
}

enum Stopped {
    Broken,
    TooLarge,
}

/// Reads to the end, and never holds more than [`DECODED_BYTES_MAX`]: a vector that grows by itself takes twice as much.
fn read_bounded(mut reader: impl Read) -> Result<Vec<u8>, Stopped> {
    let mut decoded = Vec::new();
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        let read = reader.read(&mut chunk).map_err(|_| Stopped::Broken)?;
        if read == 0 {
            return Ok(decoded);
        }
        let room = DECODED_BYTES_MAX - decoded.len();
        if read > room {
            return Err(Stopped::TooLarge);
        }
        if decoded.capacity() - decoded.len() < read {
            decoded.reserve_exact(decoded.len().max(CHUNK_BYTES).min(room));
        }
        decoded.extend_from_slice(&chunk[..read]);
    }
}

fn zstd(body: &[u8]) -> std::io::Result<ZstdDecoder<'static, &[u8]>> {
    let mut decoder = ZstdDecoder::with_buffer(body)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

/// What is called deflate: zlib (RFC 1950), or from senders that took the name at its word, deflate alone (RFC 1951). `flate2`'s own
/// readers take the end of what they are given for the end of the stream.
struct Inflate<'b> {
    inflater: Decompress,
    rest: &'b [u8],
    is_over: bool,
}

impl<'b> Inflate<'b> {
    fn new(body: &'b [u8]) -> Self {
        Self { inflater: Decompress::new(is_zlib(body)), rest: body, is_over: false }
    }
}

/// Whether it begins with the two bytes of a zlib header. They would begin a stored block of deflate with padding that nobody writes.
fn is_zlib(body: &[u8]) -> bool {
    let [first, second, ..] = *body else { return false };
    first & 0x0f == 8 && u16::from_be_bytes([first, second]).is_multiple_of(31)
}

impl Read for Inflate<'_> {
    fn read(&mut self, chunk: &mut [u8]) -> std::io::Result<usize> {
        while !self.is_over {
            let (read_before, written_before) = (self.inflater.total_in(), self.inflater.total_out());
            let status = self.inflater.decompress(self.rest, chunk, FlushDecompress::None).map_err(|_| broken())?;
            let read = (self.inflater.total_in() - read_before) as usize;
            let written = (self.inflater.total_out() - written_before) as usize;
            self.rest = &self.rest[read..];
            self.is_over = status == Status::StreamEnd;
            if written > 0 {
                return Ok(written);
            }
            if read == 0 && !self.is_over {
                return Err(broken());
            }
        }
        if self.rest.is_empty() { Ok(0) } else { Err(broken()) }
    }
}

/// Brotli of RFC 7932: no window of more than 16 MiB, and nothing after the end.
struct Brotli<'b>(Decompressor<&'b [u8]>);

impl<'b> Brotli<'b> {
    fn new(body: &'b [u8]) -> Self {
        let mut decoder = Decompressor::new(body, CHUNK_BYTES);
        decoder.set_parameter(BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW, 0);
        Self(decoder)
    }
}

impl Read for Brotli<'_> {
    fn read(&mut self, chunk: &mut [u8]) -> std::io::Result<usize> {
        let mut read = self.0.read(chunk)?;
        if read == 0 {
            // Asked once more, it says whether something is left in its buffer.
            read = self.0.read(chunk)?;
        }
        if read == 0 && !self.0.get_ref().is_empty() { Err(broken()) } else { Ok(read) }
    }
}

fn broken() -> std::io::Error {
    std::io::ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };

    use super::*;

    const TEXT: &[u8] = br#"{"id":"evt_1"}"#;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(body: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn raw_deflate(body: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn zstandard(body: &[u8]) -> Vec<u8> {
        zstd::encode_all(body, 3).unwrap()
    }

    /// By Google's encoder.
    fn brotli() -> Vec<u8> {
        hex::decode("8b06807b226964223a226576745f31227d03").unwrap()
    }

    /// As many blanks as a body may have, and one more, by Google's encoder.
    fn brotli_blanks() -> [Vec<u8>; 2] {
        [
            "cbffff3ff82540e2b14020f7fe8fffff7ff04b00c4611180eefd1fffffffe0970088c30200ddfbbffcffffc32f0110870500baf77f",
            "cbffff3ff82540e2b14020f7fe8fffff7ff04b00c4611180eefd1fffffffe0970088c30200ddfb3ffeffffc12f0110870500baf77f0000082003",
        ]
        .map(|text| hex::decode(text).unwrap())
    }

    fn all() -> Vec<(&'static str, &'static str, Vec<u8>)> {
        vec![
            ("gzip", "gzip", gzip(TEXT)),
            ("deflate", "deflate", zlib(TEXT)),
            ("deflate", "deflate", raw_deflate(TEXT)),
            ("br", "br", brotli()),
            ("zstd", "zstd", zstandard(TEXT)),
        ]
    }

    fn decoded(body: &[u8], content_encoding: &str) -> Result<Vec<u8>, ContentError> {
        decode(body, Some(content_encoding)).map(Cow::into_owned)
    }

    #[test]
    fn a_body_without_a_coding_is_not_copied() {
        for header in [None, Some(""), Some("identity"), Some(" , Identity,,")] {
            assert!(matches!(decode(TEXT, header), Ok(Cow::Borrowed(TEXT))), "{header:?}");
        }
    }

    #[test]
    fn every_coding_is_undone() {
        for (_, header, body) in all() {
            assert_eq!(decoded(&body, header).as_deref(), Ok(TEXT), "{header}");
        }
        for header in ["GZip", "x-gzip", "X-GZIP", "identity, gzip", ", gzip ,"] {
            assert_eq!(decoded(&gzip(TEXT), header).as_deref(), Ok(TEXT), "{header}");
        }
        let members = [gzip(b"{\"id\":"), gzip(b"1}")].concat();
        assert_eq!(decoded(&members, "gzip").as_deref(), Ok(&b"{\"id\":1}"[..]), "gzip may have several members");
        let frames = [zstandard(b"{\"id\":"), zstandard(b"1}")].concat();
        assert_eq!(decoded(&frames, "zstd").as_deref(), Ok(&b"{\"id\":1}"[..]), "zstd may have several frames");
    }

    #[test]
    fn codings_are_undone_in_the_reverse_order() {
        let twice = gzip(&zstandard(TEXT));
        assert_eq!(decoded(&twice, "zstd, gzip").as_deref(), Ok(TEXT));
        assert_eq!(decoded(&twice, "gzip, zstd"), Err(ContentError::Broken("zstd")));
    }

    #[test]
    fn an_empty_body_has_no_coding() {
        assert_eq!(decoded(b"", "gzip").as_deref(), Ok(&b""[..]));
        assert_eq!(decoded(&gzip(b""), "gzip").as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn unsupported_codings_are_refused() {
        for header in ["utf-8", "compress", "gzip, aws-chunked", "gzip;q=1", "gzip gzip", "é"] {
            assert_eq!(decoded(TEXT, header), Err(ContentError::UnknownCoding), "{header}");
        }
        let words = "`content-encoding` names a content coding that is not supported; gzip, deflate, br, zstd and identity are";
        assert_eq!(ContentError::UnknownCoding.to_string(), words);
    }

    #[test]
    fn the_number_of_codings_and_the_header_are_bounded_on_both_sides() {
        assert_eq!(decoded(&gzip(&gzip(TEXT)), "gzip, identity, gzip").as_deref(), Ok(TEXT));
        assert_eq!(decoded(&gzip(&gzip(&gzip(TEXT))), "gzip, gzip, gzip"), Err(ContentError::TooManyCodings));
        let header = |bytes: usize| format!("gzip{}", " ".repeat(bytes - 4));
        assert_eq!(decoded(&gzip(TEXT), &header(HEADER_BYTES_MAX)).as_deref(), Ok(TEXT));
        assert_eq!(decoded(&gzip(TEXT), &header(HEADER_BYTES_MAX + 1)), Err(ContentError::TooManyCodings));
        let words = "`content-encoding` names more than 2 content codings, or is longer than 1024 bytes";
        assert_eq!(ContentError::TooManyCodings.to_string(), words);
    }

    #[test]
    fn broken_bodies_are_refused() {
        for (name, header, body) in all() {
            let broken = Err(ContentError::Broken(name));
            for length in 1..body.len() {
                assert_eq!(decoded(&body[..length], header), broken, "{header}, cut off at {length}");
            }
            assert_eq!(decoded(&[&body[..], b"x"].concat(), header), broken, "{header}, with something after it");
            assert_eq!(decoded(TEXT, header), broken, "{header}, never applied");
        }
        let words = "the body is not valid br, although `content-encoding` says that it is";
        assert_eq!(ContentError::Broken("br").to_string(), words);
    }

    #[test]
    fn no_byte_of_a_coded_body_can_be_changed_to_make_decoding_panic() {
        for (_, header, body) in all() {
            for at in 0..body.len() {
                for value in 0..=255 {
                    let mut changed = body.clone();
                    changed[at] = value;
                    let _ = decoded(&changed, header);
                }
            }
        }
    }

    #[test]
    fn the_decoded_body_is_bounded_on_both_sides() {
        let blanks = vec![b' '; DECODED_BYTES_MAX + 1];
        let whole = &blanks[..DECODED_BYTES_MAX];
        let [brotli_whole, brotli_more] = brotli_blanks();
        for (header, longest, longer) in [
            ("gzip", gzip(whole), gzip(&blanks)),
            ("deflate", zlib(whole), zlib(&blanks)),
            ("br", brotli_whole, brotli_more),
            ("zstd", zstandard(whole), zstandard(&blanks)),
        ] {
            let decoded = |body: &[u8]| decode(body, Some(header)).map(|body| (body.len(), body.into_owned().capacity()));
            assert_eq!(decoded(&longest), Ok((DECODED_BYTES_MAX, DECODED_BYTES_MAX)), "{header}");
            assert_eq!(decoded(&longer), Err(ContentError::TooLarge), "{header}");
        }
        assert_eq!(decoded(&gzip(&gzip(&blanks)), "gzip, gzip"), Err(ContentError::TooLarge));
        assert_eq!(ContentError::TooLarge.to_string(), "the decoded body is longer than 33554432 bytes");
    }

    #[test]
    fn a_zstd_window_is_bounded_as_http_has_it() {
        let with_window = |log: u32| {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(log).unwrap();
            encoder.write_all(TEXT).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(decoded(&with_window(ZSTD_WINDOW_LOG_MAX), "zstd").as_deref(), Ok(TEXT));
        assert_eq!(decoded(&with_window(ZSTD_WINDOW_LOG_MAX + 1), "zstd"), Err(ContentError::Broken("zstd")));
    }

    #[test]
    fn a_brotli_window_is_bounded_as_http_has_it() {
        // By Google's encoder, with a window of 256 MiB, which is no part of RFC 7932.
        let large = hex::decode("111c1a00027b226964223a226576745f31227d03").unwrap();
        assert_eq!(decoded(&large, "br"), Err(ContentError::Broken("br")));
    }
}
