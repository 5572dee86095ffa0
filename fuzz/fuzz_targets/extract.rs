//! Bytes as a layer archive, extracted below a temporary folder in memory: nothing may appear or change outside the root.
//!
//! Checksums of blocks that look like headers are set right first, so that mutations reach what lies behind them.

#![no_main]

use std::fs::{self, File};
use std::path::Path;

use libfuzzer_sys::fuzz_target;

fn with_right_checksums(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().copied().map(u32::from).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

fuzz_target!(|data: &[u8]| {
    let bed = format!("/dev/shm/atoll-fuzz-{}", std::process::id());
    let bed = Path::new(&bed);
    let root = bed.join("root");
    fs::create_dir_all(&root).expect("the folder in memory can be made");
    fs::write(bed.join("outside"), "untouched").expect("the file beside it can be written");
    let bytes = with_right_checksums(data);
    // A sparse file may claim a size that only a disk has; the claim costs nothing in memory.
    let folder = File::open(&root).expect("the root was just made").into();
    let _refused = atoll_store::extract(&mut atoll_store::tar::Reader::new(&*bytes), folder);
    let names = fs::read_dir(bed).expect("the folder is there").count();
    assert_eq!(names, 2, "something appeared outside the root");
    assert_eq!(fs::read(bed.join("outside")).expect("the file is there"), b"untouched");
    fs::remove_dir_all(bed).expect("what was extracted can be removed");
});
