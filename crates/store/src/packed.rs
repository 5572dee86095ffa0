//! A layer as others take it: the blob that it came as, or one that is packed while it is read.
//!
//! A layer that was made here (a base image, a commit) or came with `docker load` is kept as a plain archive; registries hold
//! packed ones. Packing is repeated for every reader in place of keeping a second copy: the same archive packs to the same
//! bytes, so a reader may go on in the middle. What a layer packed to is noted, so that it need not be packed to be known.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use atoll_oci::{Compression, Descriptor, Digest};

use crate::blob::PIECE;
use crate::error::{Error, Result};
use crate::stage::decoder;
use crate::{Store, meta};

/// How hard zstd packs: its own default.
const ZSTD_LEVEL: i32 = 3;
/// How hard gzip packs: what costs half the time of the default level for some hundredths more bytes.
const GZIP_LEVEL: u32 = 4;

/// A layer, or another blob of an image, for others.
#[derive(Clone, Debug)]
pub struct Packed {
    /// What a place that has it already may know it by, the likeliest first.
    pub known: Vec<Descriptor>,
    /// Its media type.
    pub media_type: String,
    origin: Option<Origin>,
    wanted: Digest,
}

#[derive(Clone, Debug)]
enum Origin {
    /// A blob that goes as it is.
    Blob(Box<Descriptor>),
    /// A blob that goes in another packing.
    Repacked { blob: Digest, compression: Compression },
}

impl Store {
    /// The blob that a manifest names, for others: of a layer (`diff_id` given), a packed form.
    ///
    /// # Errors
    /// The database or the disk fails. That it is not here at all is an error of [`Store::read_packed`] only: others may have
    /// it.
    pub fn packed(&self, blob: &Descriptor, diff_id: Option<&Digest>) -> Result<Packed> {
        let here = self.stat(&blob.digest)?.is_some();
        let packed = |known, media_type, origin| Packed { known, media_type, origin, wanted: blob.digest.clone() };
        let as_it_is = |blob: &Descriptor| {
            packed(vec![blob.clone()], blob.media_type.clone(), Some(Origin::Blob(Box::new(blob.clone()))))
        };
        let (Some(diff_id), Some(promised)) = (diff_id, Compression::of_media_type(&blob.media_type)) else {
            return Ok(if here { as_it_is(blob) } else { packed(vec![blob.clone()], blob.media_type.clone(), None) });
        };
        if here && promised != Compression::None {
            return Ok(as_it_is(blob));
        }
        let compression = if promised == Compression::None { Compression::Gzip } else { promised };
        let media_type = compression.repacked_media_type(&blob.media_type).to_owned();
        let noted = meta::packed(self.db(), diff_id, &media_type)?;
        let known = noted.into_iter().chain([blob.clone()]).collect();
        let source = if here { Some(blob.clone()) } else { self.kept_blob(diff_id)? };
        let origin = source.map(|source| Origin::Repacked { blob: source.digest, compression });
        Ok(packed(known, media_type, origin))
    }

    /// The blob that a layer was unpacked from, where that is here.
    fn kept_blob(&self, diff_id: &Digest) -> Result<Option<Descriptor>> {
        let blob = self.layer(diff_id)?.and_then(|layer| layer.blob);
        Ok(match blob {
            Some(blob) if self.stat(&blob.digest)?.is_some() => Some(blob),
            _ => None,
        })
    }

    /// The bytes of a packed layer from byte `from` on. They are read on the way: this may take as long as all before it does.
    ///
    /// # Errors
    /// [`Error::MissingBlob`] when no form of it is here.
    pub fn read_packed(&self, packed: &Packed, from: u64) -> Result<Box<dyn Read + Send>> {
        match &packed.origin {
            None => Err(Error::MissingBlob(packed.wanted.clone())),
            Some(Origin::Blob(blob)) => {
                let mut file = self.get(&blob.digest)?;
                file.seek(SeekFrom::Start(from)).map_err(Error::io("read", self.blob_path(&blob.digest)))?;
                Ok(Box::new(file))
            }
            Some(Origin::Repacked { blob, compression }) => {
                let failed = |error| Error::io("read", self.blob_path(blob))(error);
                let mut file = BufReader::with_capacity(PIECE, self.get(blob)?);
                let found = Compression::sniff(io::BufRead::fill_buf(&mut file).map_err(failed)?);
                let plain = decoder(file, found).map_err(failed)?;
                let mut reader: Box<dyn Read + Send> = match compression {
                    _ if found == *compression => Box::new(self.get(blob)?),
                    Compression::None => plain,
                    Compression::Gzip => {
                        Box::new(flate2::read::GzEncoder::new(plain, flate2::Compression::new(GZIP_LEVEL)))
                    }
                    Compression::Zstd => Box::new(zstd::stream::read::Encoder::new(plain, ZSTD_LEVEL).map_err(failed)?),
                };
                io::copy(&mut (&mut reader).take(from), &mut io::sink()).map_err(failed)?;
                Ok(reader)
            }
        }
    }

    /// Notes what a layer packed to.
    ///
    /// # Errors
    /// The database fails.
    pub fn note_packed(&self, diff_id: &Digest, packed: &Descriptor) -> Result<()> {
        meta::note_packed(self.db(), diff_id, packed)
    }
}

impl Packed {
    /// Digest and length, where they are known before it is read.
    #[must_use]
    pub fn descriptor(&self) -> Option<&Descriptor> {
        match &self.origin {
            Some(Origin::Blob(blob)) => Some(blob),
            _ => None,
        }
    }
}
