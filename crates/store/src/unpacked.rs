//! A stream that somebody sends, packed as they like: gzip, zstd and xz are told by their first bytes.

use std::io::{self, BufRead, BufReader, Read};

use atoll_oci::Compression;

use crate::blob::PIECE;
use crate::stage::decoder;

/// Most memory that unpacking xz takes, KiB: what its own largest preset needs.
const XZ_MEMORY_KIB: u32 = 100 << 10;

/// The plain bytes of a stream.
///
/// # Errors
/// The stream fails, or is packed in a way that is known and not unpacked: bzip2.
pub fn unpacked<'a>(stream: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut stream = BufReader::with_capacity(PIECE, stream);
    let start = stream.fill_buf()?;
    let compression = Compression::sniff(start);
    match start {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Ok(Box::new(lzma_rust2::XzReader::new_mem_limit(stream, true, XZ_MEMORY_KIB)))
        }
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the archive is packed with bzip2, which is not supported: send it plain, or packed with gzip, zstd or xz",
        )),
        _ => decoder(stream, compression),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packings_are_told_by_their_first_bytes() {
        let check = |packed: &[u8]| {
            let mut plain = String::new();
            unpacked(packed).and_then(|mut stream| stream.read_to_string(&mut plain)).expect("it is readable");
            assert_eq!(plain, "hello");
        };
        check(b"hello");
        check(&zstd::encode_all(&b"hello"[..], 1).expect("zstd"));
        // `printf hello | xz | xxd`
        check(&[
            0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01, 0x16, 0x00,
            0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x04, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x00, 0x00, 0x00, 0x00,
            0xb1, 0x37, 0xb9, 0xdb, 0xe5, 0xda, 0x1e, 0x9b, 0x00, 0x01, 0x1d, 0x05, 0xb8, 0x2d, 0x80, 0xaf, 0x1f, 0xb6,
            0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
        ]);
        let refused = unpacked(&b"BZh91AY"[..]).err().expect("bzip2 is refused");
        assert!(refused.to_string().contains("bzip2"), "{refused}");
    }
}
