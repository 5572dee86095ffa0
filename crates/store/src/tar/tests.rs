//! Small cases of the archive format, and properties of reader and writer.

use proptest::prelude::*;

use super::header::number;
use super::{Entry, EntryKind, Error, Reader, Segment, Writer};

fn written(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        writer.append_bytes(entry, data).unwrap();
    }
    writer.finish().unwrap()
}

fn read_back(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, Error> {
    let mut reader = Reader::new(bytes);
    let mut list = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let data = reader.read_all(1 << 20)?;
        list.push((entry, data));
    }
    Ok(list)
}

/// A raw header with a right checksum.
fn raw(flag: u8, name: &[u8], size: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut block = vec![0u8; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000644");
    block[124..124 + size.len()].copy_from_slice(size);
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    change(&mut block);
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().copied().map(u32::from).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut out = data.to_vec();
    out.resize(data.len().next_multiple_of(512), 0);
    out
}

#[test]
fn numbers() {
    #[track_caller]
    fn check(field: &[u8], expected: Option<i64>) {
        assert_eq!(number(field, "x").ok(), expected, "{field:?}");
    }
    check(b"0000644\0", Some(0o644));
    check(b"   644 \0", Some(0o644));
    check(b"\0\0\0\0", Some(0));
    check(b"        ", Some(0));
    check(b"7777777", Some(0o777_7777));
    check(b"0000648\0", None);
    check(b"12 34\0", None);
    check(b"-1\0", None);
    check(b"", None);
    check(&[0x80, 0, 0, 0, 0, 0, 1, 0], Some(256));
    check(&[0xff, 0xff, 0xff, 0xff], Some(-1));
    check(&[0x80, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], None);
    check(&[0xbf; 12], None);
}

#[test]
fn what_is_written_reads_back() {
    let mut long = Entry::file(vec![b'x'; 300], 0o4755, 3);
    (long.uid, long.gid, long.mtime, long.mtime_nsec) = (3_000_000, 70_000, -2, 250_000_000);
    long.xattrs = vec![(b"user.a".to_vec(), b"1\n2\0".to_vec()), (b"user.b".to_vec(), vec![7; 5000])];
    let entries: Vec<(Entry, &[u8])> = vec![
        (Entry::new("d/", EntryKind::Directory, 0o755), b""),
        (long, b"abc"),
        (Entry::new("l", EntryKind::Symlink(vec![b't'; 200]), 0o777), b""),
        (Entry::new("h", EntryKind::HardLink(b"d/f".to_vec()), 0o644), b""),
        (Entry::new("c", EntryKind::CharDevice { major: 1, minor: 3 }, 0o666), b""),
        (Entry::new("b", EntryKind::BlockDevice { major: 259, minor: 1_000_000 }, 0o660), b""),
        (Entry::new("p", EntryKind::Fifo, 0o600), b""),
        (Entry::file("e", 0, 0), b""),
    ];
    let bytes = written(&entries);
    let expected: Vec<_> = entries.into_iter().map(|(e, d)| (e, d.to_vec())).collect();
    assert_eq!(read_back(&bytes).unwrap(), expected);
}

#[test]
fn malformed_archives_are_errors() {
    #[track_caller]
    fn check(bytes: &[u8], part: &str) {
        let error = read_back(bytes).expect_err("malformed").to_string();
        assert!(error.contains(part), "{error}");
    }
    let good = written(&[(Entry::file("a", 0o644, 0), b"hello")]);
    check(&good[..600], "truncated");
    check(&good[..100], "truncated");
    let mut flipped = good.clone();
    flipped[5] ^= 1;
    check(&flipped, "checksum");
    check(&[b'x'; 512], "checksum");
    check(&raw(b'0', b"", b"0", |_| ()), "path");
    check(&raw(b'Q', b"a", b"0", |_| ()), "type 'Q'");
    check(&raw(b'0', b"a", b"x", |_| ()), "size");
    check(&raw(b'2', b"a", b"0", |_| ()), "path or link target");
    check(&raw(b'x', b"a", b"7777777777", |_| ()), "limit for its extended header");
    check(&raw(b'L', b"a", b"7777777777", |_| ()), "limit for its name");
    let pax = |text: &[u8]| {
        let size = format!("{:o}", text.len());
        [raw(b'x', b"p", size.as_bytes(), |_| ()), padded(text), raw(b'0', b"a", b"0", |_| ())].concat()
    };
    check(&pax(b"99 path=x\n"), "longer than its header");
    check(&pax(b"path=x\n"), "no length");
    check(&pax(b"9 path=xy"), "newline");
    check(&pax(b"8 pathx\n"), "no =");
    check(&pax(b"10 path=\0\n"), "NUL");
    check(&pax(b"11 size=-1\n"), "size");
    check(&pax(b"28 size=99999999999999999999\n")[..], "");
    check(&pax(b"22 GNU.sparse.major=1\n"), "real size is missing");
    check(&pax(b"12 SCHILY.xattr.=1\n".as_slice()), "");
    let global = [raw(b'g', b"g", b"11", |_| ()), padded(b"9 path=x\n"), raw(b'0', b"a", b"0", |_| ())].concat();
    check(&global, "global header");
    let only_meta = [raw(b'L', b"l", b"2", |_| ()), padded(b"x\0"), vec![0; 1024]].concat();
    check(&only_meta, "truncated");
    let flood = [raw(b'L', b"l", b"2", |_| ()), padded(b"x\0")].concat().repeat(20);
    check(&flood, "extended headers");
}

#[test]
fn sparse_maps_are_checked() {
    let sparse = |segments: &[(&[u8], &[u8])], size: &[u8], real: &[u8]| {
        let stored = usize::from_str_radix(std::str::from_utf8(size).unwrap(), 8).unwrap();
        let header = raw(b'S', b"s", size, |block| {
            block[257..265].copy_from_slice(b"ustar  \0");
            for (at, (offset, len)) in segments.iter().enumerate() {
                block[386 + at * 24..][..offset.len()].copy_from_slice(offset);
                block[398 + at * 24..][..len.len()].copy_from_slice(len);
            }
            block[483..483 + real.len()].copy_from_slice(real);
        });
        [header, padded(&vec![b'd'; stored])].concat()
    };
    let good = read_back(&sparse(&[(b"1000", b"2")], b"2", b"2000")).unwrap();
    assert_eq!(good[0].0.size, 0o2000);
    assert_eq!(good[0].0.sparse, Some(vec![Segment { offset: 0o1000, len: 2 }]));
    assert_eq!(good[0].1, b"dd");
    for (wrong, part) in [
        (sparse(&[(b"1000", b"2")], b"3", b"2000"), "differ in length"),
        (sparse(&[(b"1000", b"2")], b"2", b"1001"), "beyond the file"),
        (sparse(&[(b"10", b"2"), (b"11", b"1")], b"3", b"2000"), "overlap"),
    ] {
        let error = read_back(&wrong).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn old_quirks() {
    let v7 = raw(0, b"dir/", b"0", |block| block[257..265].fill(0));
    assert_eq!(read_back(&v7).unwrap()[0].0.kind, EntryKind::Directory);
    let prefixed = raw(b'0', b"name", b"0", |block| block[345..348].copy_from_slice(b"pre"));
    assert_eq!(read_back(&prefixed).unwrap()[0].0.path, b"pre/name");
    // A hard link with a size has no data, as in Go's reader.
    let link = raw(b'1', b"l", b"5", |block| block[157] = b't');
    assert_eq!(read_back(&[link, vec![0; 1024]].concat()).unwrap().len(), 1);
}

proptest! {
    #[test]
    fn any_entry_reads_back(
        path in "[a-z/]{1,180}", mode in 0u32..0o10000, uid in 0u64..1 << 40, mtime in -1i64 << 40..1 << 40,
        nsec in 0u32..1_000_000_000, data in proptest::collection::vec(any::<u8>(), 0..1500),
        value in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        prop_assume!(!path.ends_with('/'));
        let mut entry = Entry::file(path, mode, data.len() as u64);
        (entry.uid, entry.mtime, entry.mtime_nsec) = (uid, mtime, nsec);
        entry.xattrs = vec![(b"user.x".to_vec(), value)];
        let bytes = written(&[(entry.clone(), &data)]);
        prop_assert_eq!(read_back(&bytes).unwrap(), vec![(entry, data)]);
    }

    #[test]
    fn broken_bytes_never_panic(at in 0usize..2048, bits in 1u8..255, cut in 0usize..2048) {
        let mut entry = Entry::file(vec![b'n'; 120], 0o644, 0);
        entry.mtime_nsec = 5;
        let mut bytes = written(&[(entry, b"data")]);
        let at = at % bytes.len();
        bytes[at] ^= bits;
        let _ = read_back(&bytes);
        bytes.truncate(cut);
        let _ = read_back(&bytes);
    }
}
