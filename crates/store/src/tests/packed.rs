//! Layers for others, and layers that came in part.

use super::*;

fn read(store: &Store, packed: &crate::Packed, from: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.read_packed(packed, from).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn plain_layers_are_packed_on_the_way_and_always_alike() {
    let bed = Bed::new();
    let lease = bed.store.lease("test").unwrap();
    let tar = archive("file", &[7; 100_000]);
    let diff_id = Digest::sha256(&tar);
    let layer = unpack(&bed.store, &lease, &tar, Compression::None, &diff_id).unwrap();
    let blob = layer.blob.unwrap();
    let packed = bed.store.packed(&blob, Some(&diff_id)).unwrap();
    assert_eq!((packed.descriptor(), packed.media_type.as_str()), (None, media_type::OCI_LAYER_GZIP));
    assert_eq!(packed.known, std::slice::from_ref(&blob));
    let whole = read(&bed.store, &packed, 0);
    assert!(whole.len() < 10_000 && read(&bed.store, &packed, 100) == whole[100..]);
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&*whole).read_to_end(&mut plain).unwrap();
    assert_eq!(plain, tar);
    // What it packed to is known from then on, until it goes.
    let noted = Descriptor::of_bytes(media_type::OCI_LAYER_GZIP, &whole);
    bed.store.note_packed(&diff_id, &noted).unwrap();
    assert_eq!(bed.store.packed(&blob, Some(&diff_id)).unwrap().known, [noted, blob.clone()]);
    drop(lease);
    bed.store.sweep(&[]).unwrap();
    let gone = bed.store.packed(&blob, Some(&diff_id)).unwrap();
    assert_eq!(gone.known, [blob]);
    assert!(matches!(bed.store.read_packed(&gone, 0), Err(Error::MissingBlob(_))));
}

#[test]
fn packed_layers_go_as_they_are_or_as_their_image_says() {
    let bed = Bed::new();
    let lease = bed.store.lease("test").unwrap();
    let tar = archive("file", b"content");
    let diff_id = Digest::sha256(&tar);
    let bytes = gzip(&tar);
    let blob = unpack(&bed.store, &lease, &bytes, Compression::Gzip, &diff_id).unwrap().blob.unwrap();
    let packed = bed.store.packed(&blob, Some(&diff_id)).unwrap();
    assert_eq!(packed.descriptor(), Some(&blob));
    assert_eq!((read(&bed.store, &packed, 0), read(&bed.store, &packed, 5)), (bytes.clone(), bytes[5..].to_vec()));
    // An image that has the same layer by zstd, whose blob never came.
    let other = Descriptor::of_bytes(media_type::DOCKER_LAYER_ZSTD, &zstd::encode_all(&*tar, 9).unwrap());
    let packed = bed.store.packed(&other, Some(&diff_id)).unwrap();
    assert_eq!((&packed.known[0], packed.media_type.as_str()), (&other, media_type::DOCKER_LAYER_ZSTD));
    assert_eq!(zstd::decode_all(&*read(&bed.store, &packed, 0)).unwrap(), tar);
    // One by gzip, from another packer: the bytes that are here serve.
    let other = Descriptor::of_bytes(media_type::DOCKER_LAYER_GZIP, b"other gzip");
    assert_eq!(read(&bed.store, &bed.store.packed(&other, Some(&diff_id)).unwrap(), 0), bytes);
    // What is no layer goes as it is, or not at all.
    let note = bed.store.put_bytes(&lease, "application/vnd.in-toto+json", b"{}").unwrap();
    assert_eq!(read(&bed.store, &bed.store.packed(&note, None).unwrap(), 0), b"{}");
}

#[test]
fn a_layer_keeps_the_blob_that_it_came_as() {
    let bed = Bed::new();
    let lease = bed.store.lease("test").unwrap();
    let first = image(&bed.store, &lease, "a", b"content");
    let image = bed.store.image(&first.digest).unwrap();
    let (diff_id, blob) = (image.layers[0].diff_id.clone(), image.layers[0].blob.clone().unwrap());
    // Another image with the same layer in another packing, which is not here.
    let other = Descriptor::of_bytes(media_type::OCI_LAYER_ZSTD, b"zstd");
    let manifest = Manifest::new(image.manifest.config, vec![other]);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let manifest = bed.store.put_bytes(&lease, media_type::OCI_MANIFEST, &manifest).unwrap();
    bed.store.link("b", &manifest).unwrap();
    bed.store.unlink("a").unwrap();
    drop(lease);
    bed.store.sweep(&[]).unwrap();
    assert_eq!(bed.store.stat(&first.digest).unwrap(), None);
    assert_eq!(bed.store.stat(&blob.digest).unwrap(), Some(blob.size));
    assert!(bed.store.layer(&diff_id).unwrap().is_some());
}

#[test]
fn a_lease_on_a_manifest_keeps_what_it_names() {
    let bed = Bed::new();
    let lease = bed.store.lease("test").unwrap();
    let manifest = image(&bed.store, &lease, "a", b"content");
    let other = bed.store.lease("push").unwrap();
    bed.store.hold(&other, &manifest.digest).unwrap();
    bed.store.unlink("a").unwrap();
    drop(lease);
    bed.store.sweep(&[]).unwrap();
    bed.store.image(&manifest.digest).unwrap();
    drop(other);
    bed.store.sweep(&[]).unwrap();
    assert!(bed.store.image(&manifest.digest).is_err());
}

/// A stream that breaks off.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0.is_empty() { Err(std::io::Error::other("it broke off")) } else { self.0.read(buffer) }
    }
}

#[test]
fn what_has_come_of_a_layer_is_kept() {
    let bed = Bed::new();
    let lease = bed.store.lease("test").unwrap();
    let noise: Vec<u8> = (0..1_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let tar = archive("file", &noise);
    let descriptor = Descriptor::of_bytes(media_type::OCI_LAYER, &tar);
    let source = LayerSource { descriptor: Some(&descriptor), keep: true, ..LayerSource::default() };
    let half = tar.len() / 2;
    assert!(matches!(bed.store.unpack(&lease, source, &mut Broken(&tar[..half])), Err(Error::Source(_))));
    let (mut file, length) = bed.store.take_partial(&descriptor.digest).unwrap().unwrap();
    assert!(bed.store.take_partial(&descriptor.digest).unwrap().is_none(), "it is somebody's");
    let mut came = Vec::new();
    file.read_to_end(&mut came).unwrap();
    assert!(came.len() as u64 == length && tar.starts_with(&came) && length >= (half - (256 << 10)) as u64);
    // Little is not worth it, and neither is what is wrong.
    assert!(bed.store.unpack(&lease, source, &mut Broken(&tar[..1000])).is_err());
    assert!(bed.store.unpack(&lease, source, &mut &tar[1..]).is_err());
    assert_eq!(bed.count("partial"), 0);
    // A process that died had it under way.
    let dead = bed.dir.path().join("store/tmp/00000000-1-1-0");
    fs::create_dir(&dead).unwrap();
    let name = format!("sha256-{}", descriptor.digest.hex());
    fs::write(dead.join(format!("5.{name}")), &tar[..half]).unwrap();
    fs::write(dead.join("6"), &tar[..half]).unwrap();
    drop(lease);
    let bed = bed.reopen();
    assert_eq!(bed.store.take_partial(&descriptor.digest).unwrap().unwrap().1, half as u64);
    assert!(!dead.exists() && bed.count("partial") == 0);
}
