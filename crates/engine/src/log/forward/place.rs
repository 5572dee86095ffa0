//! How far a workload's log was sent on: two numbers of a fixed width in a file of its folder, written over in one write, which a
//! kill does not cut in two. After a power cut it may be older than what was sent, or empty: then lines are sent again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::runtime::log::Cursor;

const NAME: &str = "forwarded";
const MODE: u32 = 0o640;

/// The file, open.
#[derive(Debug)]
pub(super) struct Place {
    file: File,
    cursor: Cursor,
}

impl Place {
    /// Reads it, or makes it for a log of which nothing was sent.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(MODE).open(folder.join(NAME))?;
        let text = io::read_to_string(&file).unwrap_or_default();
        Ok(Self { file, cursor: parse(&text).unwrap_or_default() })
    }

    pub(super) const fn cursor(&self) -> Cursor {
        self.cursor
    }

    pub(super) fn set(&mut self, cursor: Cursor) -> io::Result<()> {
        self.file.write_all_at(format!("{:020} {:020}\n", cursor.file, cursor.offset).as_bytes(), 0)?;
        self.cursor = cursor;
        Ok(())
    }
}

fn parse(text: &str) -> Option<Cursor> {
    let (file, offset) = text.strip_suffix('\n')?.split_once(' ')?;
    Some(Cursor { file: file.parse().ok()?, offset: offset.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_again_and_nonsense_is_the_beginning() {
        let folder = tempfile::tempdir().expect("folder");
        let open = || Place::open(folder.path()).expect("open");
        assert_eq!(open().cursor(), Cursor::default());
        for cursor in [Cursor { file: 7, offset: u64::MAX }, Cursor { file: 0, offset: 16 }] {
            open().set(cursor).expect("write");
            assert_eq!(open().cursor(), cursor);
        }
        for nonsense in ["", "1", "1 2", "x 2\n", "\0\0\0"] {
            std::fs::write(folder.path().join(NAME), nonsense).expect("write");
            assert_eq!(open().cursor(), Cursor::default());
        }
    }
}
