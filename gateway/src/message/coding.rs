//! Takes content codings off a body, piece by piece and under a limit.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::rc::Rc;

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};
use http::{HeaderMap, header};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation as _, OutBuffer};

use super::body::BodyError;

/// Takes off the codings that `Content-Encoding` names, the last one first.
///
/// What comes out is at most the limit; a bomb stops there, whatever it would have become.
pub struct Decoder {
    first: Box<dyn Stage>,
    coding: &'static str,
    plain: Rc<RefCell<Vec<u8>>>,
    over: Rc<Cell<bool>>,
    bytes_max: u64,
    touched: bool,
}

/// A coding that is not known, or too many of them.
#[derive(Debug, thiserror::Error)]
#[error("content coding `{0}` is not known")]
pub struct UnknownCoding(pub String);

impl Decoder {
    /// A decoder for a message; `None` where its body is not coded.
    pub fn for_headers(headers: &HeaderMap, bytes_max: u64) -> Result<Option<Self>, UnknownCoding> {
        let mut codings = Vec::new();
        for value in headers.get_all(header::CONTENT_ENCODING) {
            let value = value.to_str().map_err(|_| UnknownCoding(format!("{value:?}")))?;
            for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                codings.extend(Coding::from_name(name)?);
                if codings.len() > CODINGS_MAX {
                    return Err(UnknownCoding(value.to_owned()));
                }
            }
        }
        let Some(last) = codings.last() else { return Ok(None) };
        let coding = last.name();

        let (plain, over) = (Rc::default(), Rc::default());
        let mut first: Box<dyn Stage> = Box::new(Sink(Rc::clone(&plain)));
        let mut left = bytes_max;
        for coding in codings {
            first = coding.stage(Limited { next: first, left, over: Rc::clone(&over) }).map_err(UnknownCoding)?;
            // What is coded twice may be somewhat longer in between than at the end, but not without bounds: a stage
            // that turns little into much of nothing would keep the next one busy for ever.
            left = bytes_max.saturating_add(SLACK_BYTES);
        }
        Ok(Some(Self { first, coding, plain, over, bytes_max, touched: false }))
    }

    /// Takes the next piece of the coded body.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), BodyError> {
        self.touched |= !piece.is_empty();
        let pushed = self.first.write_all(piece);
        self.check(pushed)
    }

    /// The plain body. What was cut off is an error; a body of no bytes at all, as in an answer to `HEAD`, is not.
    pub fn finish(mut self) -> Result<Bytes, BodyError> {
        if self.touched {
            let ended = self.first.end();
            self.check(ended)?;
        }
        Ok(std::mem::take(&mut *self.plain.borrow_mut()).into())
    }

    fn check(&self, done: io::Result<()>) -> Result<(), BodyError> {
        // Some decoders swallow the error of what they write to, so the flag is asked first.
        if self.over.get() {
            return Err(BodyError::TooLarge { bytes_max: self.bytes_max });
        }
        done.map_err(|_| BodyError::Coding { coding: self.coding })
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("coding", &self.coding).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// `None` for `identity`.
    fn from_name(name: &str) -> Result<Option<Self>, UnknownCoding> {
        Ok(Some(match name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "br" => Self::Brotli,
            "zstd" => Self::Zstd,
            "identity" => return Ok(None),
            _ => return Err(UnknownCoding(name.to_owned())),
        }))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    fn stage(self, next: Limited) -> Result<Box<dyn Stage>, String> {
        Ok(match self {
            Self::Gzip => Box::new(Gzip(flate2::write::MultiGzDecoder::new(next))),
            Self::Deflate => Box::new(Deflate { head: Vec::new(), inflate: None, ended: false, next }),
            Self::Brotli => Box::new(Brotli(brotli::DecompressorWriter::new(next, BUFFER_BYTES))),
            Self::Zstd => {
                let mut decoder = ZstdDecoder::new().map_err(|error| error.to_string())?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).map_err(|error| error.to_string())?;
                Box::new(Zstd { decoder, frame_ended: false, next })
            }
        })
    }
}

/// One coding being taken off: takes coded bytes, writes plainer ones to the next stage.
trait Stage: Write {
    /// The coded bytes are over. An error where they should not be.
    fn end(&mut self) -> io::Result<()>;
}

/// The way from one stage to the next.
struct Limited {
    next: Box<dyn Stage>,
    left: u64,
    over: Rc<Cell<bool>>,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            self.over.set(true);
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        self.left = left;
        self.next.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Sink(Rc<RefCell<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stage for Sink {
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Gzip(flate2::write::MultiGzDecoder<Limited>);

impl Write for Gzip {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stage for Gzip {
    fn end(&mut self) -> io::Result<()> {
        self.0.try_finish()?;
        self.0.get_mut().next.end()
    }
}

struct Brotli(brotli::DecompressorWriter<Limited>);

impl Write for Brotli {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stage for Brotli {
    fn end(&mut self) -> io::Result<()> {
        self.0.close()?;
        self.0.get_mut().next.end()
    }
}

/// `deflate` means zlib, but some senders leave zlib's frame away.
struct Deflate {
    /// The first two bytes, which tell.
    head: Vec<u8>,
    inflate: Option<Decompress>,
    ended: bool,
    next: Limited,
}

impl Deflate {
    fn inflate(&mut self, mut coded: &[u8]) -> io::Result<()> {
        let Some(inflate) = &mut self.inflate else { return Ok(()) };
        let mut plain = [0; BUFFER_BYTES];
        while !self.ended {
            let (read, written) = (inflate.total_in(), inflate.total_out());
            let status = inflate.decompress(coded, &mut plain, FlushDecompress::None).map_err(io::Error::other)?;
            let read = usize::try_from(inflate.total_in() - read).unwrap_or(usize::MAX);
            let written = usize::try_from(inflate.total_out() - written).unwrap_or(usize::MAX);
            self.ended = status == Status::StreamEnd;
            coded = coded.get(read..).unwrap_or_default();
            self.next.write_all(plain.get(..written).unwrap_or_default())?;
            if coded.is_empty() && written < plain.len() || read == 0 && written == 0 {
                break;
            }
        }
        if coded.is_empty() { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

impl Write for Deflate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.inflate.is_some() {
            self.inflate(bytes)?;
            return Ok(bytes.len());
        }
        self.head.extend_from_slice(bytes);
        if let [method, check, ..] = *self.head.as_slice() {
            let is_zlib = method & 0x0f == 8 && u16::from_be_bytes([method, check]) % 31 == 0;
            self.inflate = Some(Decompress::new(is_zlib));
            let head = std::mem::take(&mut self.head);
            self.inflate(&head)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stage for Deflate {
    fn end(&mut self) -> io::Result<()> {
        if !self.ended {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.next.next.end()
    }
}

struct Zstd {
    decoder: ZstdDecoder<'static>,
    /// Frames may follow one another.
    frame_ended: bool,
    next: Limited,
}

impl Write for Zstd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut input = InBuffer::around(bytes);
        let mut plain = [0; BUFFER_BYTES];
        loop {
            let (read, mut output) = (input.pos(), OutBuffer::around(&mut plain[..]));
            let hint = self.decoder.run(&mut input, &mut output)?;
            let full = output.pos() == BUFFER_BYTES;
            self.next.write_all(output.as_slice())?;
            if input.pos() > read || full {
                self.frame_ended = hint == 0;
            }
            if input.pos() == bytes.len() && !full {
                return Ok(bytes.len());
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stage for Zstd {
    fn end(&mut self) -> io::Result<()> {
        if !self.frame_ended {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.next.next.end()
    }
}

const CODINGS_MAX: usize = 3;
const BUFFER_BYTES: usize = 16 * 1024;
const SLACK_BYTES: u64 = 64 * 1024;
/// 8 MiB, which RFC 9659 sets for HTTP.
const ZSTD_WINDOW_LOG: u32 = 23;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use flate2::Compression;
    use http::HeaderValue;

    use super::*;

    fn encode(coding: &str, plain: &[u8]) -> Vec<u8> {
        match coding {
            "gzip" | "x-gzip" => {
                let mut to = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
                to.write_all(plain).unwrap();
                to.finish().unwrap()
            }
            "deflate" => {
                let mut to = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
                to.write_all(plain).unwrap();
                to.finish().unwrap()
            }
            "raw" => {
                let mut to = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
                to.write_all(plain).unwrap();
                to.finish().unwrap()
            }
            "br" => {
                let mut to = Vec::new();
                brotli::CompressorWriter::new(&mut to, 4096, 5, 22).write_all(plain).unwrap();
                to
            }
            "zstd" => zstd::encode_all(plain, 3).unwrap(),
            _ => plain.to_vec(),
        }
    }

    fn decode(names: &'static str, coded: &[u8], step: usize, bytes_max: u64) -> Result<Bytes, BodyError> {
        let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(names))]);
        let mut decoder = Decoder::for_headers(&headers, bytes_max).unwrap().unwrap();
        for piece in coded.chunks(step) {
            decoder.push(piece)?;
        }
        decoder.finish()
    }

    const CODINGS: [(&str, &str); 6] = [
        ("gzip", "gzip"),
        ("X-GZip", "x-gzip"),
        ("deflate", "deflate"),
        ("deflate", "raw"),
        ("br", "br"),
        ("zstd", "zstd"),
    ];

    fn text() -> Vec<u8> {
        (0..40_000u32).flat_map(|n| (n * n % 977).to_string().into_bytes()).collect()
    }

    #[test]
    fn every_coding_is_taken_off_in_pieces_of_any_size() {
        let plain = text();
        for (name, coding) in CODINGS {
            let coded = encode(coding, &plain);
            for step in [1, 7, 4096, coded.len()] {
                assert_eq!(decode(name, &coded, step, 1 << 20).unwrap(), plain, "{coding} by {step}");
            }
        }
    }

    #[test]
    fn exactly_the_limit_passes_and_one_byte_more_does_not() {
        let plain = text();
        for (name, coding) in CODINGS {
            let coded = encode(coding, &plain);
            let max = plain.len() as u64;
            assert_eq!(decode(name, &coded, 999, max).unwrap(), plain, "{coding}");
            let error = decode(name, &coded, 999, max - 1).unwrap_err();
            assert!(matches!(error, BodyError::TooLarge { bytes_max } if bytes_max == max - 1), "{coding}: {error}");
        }
    }

    #[test]
    fn bombs_stop_at_the_limit() {
        let zeros = vec![0; 8 << 20];
        for (name, coding) in CODINGS {
            let bomb = encode(coding, &zeros);
            let error = decode(name, &bomb, bomb.len(), 1000).unwrap_err();
            assert!(matches!(error, BodyError::TooLarge { .. }), "{coding}: {error}");
        }
    }

    #[test]
    fn bombs_of_nothing_stop_between_two_codings() {
        let nothings = encode("gzip", b"").repeat(50_000);
        let error = decode("gzip, zstd", &encode("zstd", &nothings), 4096, 1000).unwrap_err();
        assert!(matches!(error, BodyError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn truncated_input_is_an_error() {
        let plain = text();
        for (name, coding) in CODINGS {
            let coded = encode(coding, &plain);
            for kept in [1, 2, 5, coded.len() / 2, coded.len() - 1] {
                let error = decode(name, &coded[..kept], 4096, 1 << 20).expect_err(coding);
                assert!(matches!(error, BodyError::Coding { .. }), "{coding}: {error}");
            }
        }
    }

    #[test]
    fn noise_is_an_error() {
        for (name, coding) in CODINGS {
            assert!(decode(name, b"this is not coded at all, it is a sentence", 4096, 1 << 20).is_err(), "{coding}");
        }
    }

    #[test]
    fn several_codings_come_off_in_reverse_order() {
        let coded = encode("br", &encode("gzip", b"hello"));
        assert_eq!(decode("gzip, identity, br", &coded, 3, 1 << 20).unwrap(), "hello");
    }

    #[test]
    fn frames_and_members_may_follow_one_another() {
        for name in ["gzip", "zstd"] {
            let coded = [encode(name, b"one "), encode(name, b"two")].concat();
            assert_eq!(decode(name, &coded, 5, 100).unwrap(), "one two");
        }
    }

    #[test]
    fn no_bytes_at_all_are_an_empty_body() {
        assert_eq!(decode("gzip", b"", 1, 100).unwrap(), "");
    }

    #[test]
    fn large_windows_are_refused() {
        let mut encoder = zstd::stream::raw::Encoder::new(1).unwrap();
        encoder.set_parameter(zstd::stream::raw::CParameter::WindowLog(27)).unwrap();
        let mut coded = vec![0; 1 << 20];
        let mut output = OutBuffer::around(&mut coded[..]);
        encoder.run(&mut InBuffer::around(&text()), &mut output).unwrap();
        encoder.finish(&mut output, true).unwrap();
        let error = decode("zstd", output.as_slice(), 4096, 1 << 20).unwrap_err();
        assert!(matches!(error, BodyError::Coding { coding: "zstd" }), "{error}");
    }

    // limit: message::coding::CODINGS_MAX
    #[test]
    fn unknown_or_too_many_codings_are_refused() {
        let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static("gzip, br, gzip"))]);
        assert!(Decoder::for_headers(&headers, 10).is_ok());
        for names in ["compress", "gzip, gzip, gzip, gzip", "gzip;q=1"] {
            let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(names))]);
            assert!(Decoder::for_headers(&headers, 10).is_err(), "{names}");
        }
        assert!(Decoder::for_headers(&HeaderMap::new(), 10).unwrap().is_none());
    }
}
