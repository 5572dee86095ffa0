//! Binary packages (deb(5)): an `ar` archive of `debian-binary`, `control.tar*` and `data.tar*`.
//!
//! Opening a package finds and checks its members; the control files are read to memory (bounded), the data comes as a
//! stream of plain tar. Left out: format 0.939, `lzma` and `bz2` members (none in any suite that is supported).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use atoll_store::tar;

/// Bytes of the unpacked data of one package.
pub const DATA_MAX: u64 = 16 << 30;
/// Bytes of all control files of one package.
pub const CONTROL_MAX: u64 = 32 << 20;
/// Members of the `ar` archive.
const MEMBERS_MAX: usize = 16;
/// Memory that xz may ask for, in KiB (its highest preset needs 65 MiB).
pub(crate) const XZ_MEMORY_KIB: u32 = 256 << 10;

/// Why a package cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not a package of format 2.
    #[error("not a Debian package: {0}")]
    Format(&'static str),
    /// A member is compressed in an unknown way.
    #[error("package member {0} has a compression that is not supported")]
    Compression(String),
    /// Its control files are too large.
    #[error("its control files are larger than {CONTROL_MAX} bytes")]
    ControlTooLarge,
    /// Reading failed or the compressed data is damaged.
    #[error("damaged or unreadable package")]
    Io(#[from] io::Error),
    /// The tar inside is malformed.
    #[error("malformed archive in the package")]
    Tar(#[from] tar::Error),
}

/// How a stream is compressed, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// `.gz`
    Gzip,
    /// `.xz`
    Xz,
    /// `.zst`
    Zstd,
}

impl Packing {
    /// By the ending of a member's or file's name after its stem.
    pub fn of_ending(ending: &str) -> Option<Self> {
        match ending {
            "" => Some(Self::Plain),
            ".gz" => Some(Self::Gzip),
            ".xz" => Some(Self::Xz),
            ".zst" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The plain bytes of a packed stream; at most `limit` of them.
    pub fn unpack<'a>(self, input: impl Read + 'a, limit: u64) -> io::Result<Box<dyn Read + 'a>> {
        let input = BufReader::with_capacity(128 << 10, input);
        Ok(match self {
            Self::Plain => Box::new(input.take(limit)),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input).take(limit)),
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, XZ_MEMORY_KIB).take(limit)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?.take(limit)),
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Member {
    offset: u64,
    size: u64,
    packing: Packing,
}

/// An unpacked stream.
pub type Plain = BufReader<Box<dyn Read>>;

/// The data of a reader's current entry as a stream.
#[derive(Debug)]
pub struct Content<'a, R>(pub &'a mut tar::Reader<R>);

impl<R: BufRead> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.0.chunk(buffer.len()).map_err(io::Error::other)?;
        let len = piece.len();
        buffer[..len].copy_from_slice(piece);
        self.0.consume(len);
        Ok(len)
    }
}

/// An opened package.
#[derive(Debug)]
pub struct Deb {
    file: File,
    control: Member,
    data: Member,
}

/// The control files (`control`, `conffiles`, `postinst` …) by name, with their permission bits.
pub type ControlFiles = BTreeMap<String, (u32, Vec<u8>)>;

impl Deb {
    /// Finds the members of a package.
    pub fn open(mut file: File) -> Result<Self, Error> {
        let total = file.metadata()?.len();
        let mut magic = [0; 8];
        read_header(&mut file, &mut magic, "it has no ar header")?;
        if &magic != b"!<arch>\n" {
            return Err(Error::Format("it has no ar header"));
        }
        let (mut at, mut control, mut data, mut version) = (8, None, None, false);
        for _ in 0..MEMBERS_MAX {
            if at >= total {
                break;
            }
            file.seek(SeekFrom::Start(at))?;
            let mut header = [0; 60];
            read_header(&mut file, &mut header, "an ar member is cut off")?;
            let (name, size) = parse_header(&header)?;
            let offset = at + 60;
            if size > total.saturating_sub(offset) {
                return Err(Error::Format("an ar member is cut off"));
            }
            let member = |stem: &str| -> Result<Member, Error> {
                let packing =
                    Packing::of_ending(&name[stem.len()..]).ok_or_else(|| Error::Compression(name.clone()))?;
                Ok(Member { offset, size, packing })
            };
            if name == "debian-binary" {
                let mut text = [0; 2];
                read_header(&mut file, &mut text, "its version is missing")?;
                version = &text == b"2.";
            } else if name.starts_with("control.tar") && control.is_none() {
                control = Some(member("control.tar")?);
            } else if name.starts_with("data.tar") && data.is_none() {
                data = Some(member("data.tar")?);
            }
            at = offset + size + size % 2;
        }
        match (version, control, data) {
            (true, Some(control), Some(data)) => Ok(Self { file, control, data }),
            (false, ..) => Err(Error::Format("it is not of format 2")),
            (_, None, _) => Err(Error::Format("it has no control member")),
            (_, _, None) => Err(Error::Format("it has no data member")),
        }
    }

    fn member(&self, member: Member, limit: u64) -> Result<Plain, Error> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(member.offset))?;
        Ok(BufReader::with_capacity(256 << 10, member.packing.unpack(file.take(member.size), limit)?))
    }

    /// Reads all control files.
    pub fn control(&self) -> Result<ControlFiles, Error> {
        let mut reader = tar::Reader::new(self.member(self.control, CONTROL_MAX)?);
        let mut files = ControlFiles::new();
        let mut total = 0;
        while let Some(entry) = reader.next_entry()? {
            if entry.kind != tar::EntryKind::File {
                continue;
            }
            let name = String::from_utf8_lossy(&entry.path).trim_start_matches("./").to_owned();
            let bytes = reader.read_all(CONTROL_MAX)?;
            total += bytes.len() as u64;
            if total > CONTROL_MAX {
                return Err(Error::ControlTooLarge);
            }
            files.insert(name, (entry.mode, bytes));
        }
        Ok(files)
    }

    /// The stream of the packed files, as plain tar.
    pub fn data(&self) -> Result<Plain, Error> {
        self.member(self.data, DATA_MAX)
    }
}

fn read_header(file: &mut File, buffer: &mut [u8], what: &'static str) -> Result<(), Error> {
    file.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::Format(what),
        _ => Error::Io(error),
    })
}

/// Name and size of an `ar` member.
fn parse_header(header: &[u8; 60]) -> Result<(String, u64), Error> {
    let malformed = Error::Format("an ar header is malformed");
    if &header[58..] != b"`\n" {
        return Err(malformed);
    }
    let text = |range: std::ops::Range<usize>| std::str::from_utf8(&header[range]).ok().map(str::trim_end);
    match (text(0..16), text(48..58).and_then(|size| size.parse().ok())) {
        (Some(name), Some(size)) => Ok((name.trim_end_matches('/').to_owned(), size)),
        _ => Err(malformed),
    }
}
