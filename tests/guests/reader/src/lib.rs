//! A guest of the tests that reads files with std alone, as components do that know nothing of this
//! host.

#![expect(clippy::panic, reason = "one of its contracts is there to crash")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};

use guest_sdk::prelude::*;

/// Keeps what it read.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    texts: Vec<String>,
}

#[guest(files)]
impl Reader {
    /// Does one thing with a path, keeps what came of it, and answers that.
    pub fn run(&mut self, what: String, path: String) -> String {
        let text = run(&what, &path).unwrap_or_else(|error| format!("error: {}", error.kind()));
        self.texts.push(text.clone());
        text
    }

    /// The same, and keeps nothing.
    pub fn look(&self, what: String, path: String) -> String {
        run(&what, &path).unwrap_or_else(|error| format!("error: {}", error.kind()))
    }

    /// Opens a file, and keeps it open.
    pub fn leak(&mut self, path: String) -> bool {
        File::open(path).is_ok_and(|file| {
            std::mem::forget(file);
            true
        })
    }

    /// Reads a file, and panics with what was in it.
    pub fn fail(&mut self, path: String) {
        panic!("it was {:?}", fs::read_to_string(path).map_err(|error| error.kind()));
    }

    /// How often it ran.
    pub fn runs(&self) -> usize {
        self.texts.len()
    }
}

fn run(what: &str, path: &str) -> io::Result<String> {
    let done = || "done".to_owned();
    match what {
        "read" => fs::read_to_string(path),
        "end" => {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::End(-2))?;
            let mut end = String::new();
            file.read_to_string(&mut end)?;
            Ok(end)
        }
        "size" => Ok(fs::metadata(path)?.len().to_string()),
        "count" => Ok(io::copy(&mut File::open(path)?, &mut io::sink())?.to_string()),
        "kind" => Ok(format!("{:?}", fs::symlink_metadata(path)?.file_type().is_symlink())),
        "link" => Ok(fs::read_link(path)?.display().to_string()),
        "list" => {
            let mut names = Vec::new();
            for entry in fs::read_dir(path)? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            Ok(names.join(" "))
        }
        "names" => Ok(fs::read_dir(path)?.count().to_string()),
        "write" => fs::write(path, "x").map(|()| done()),
        "append" => OpenOptions::new().append(true).open(path).map(|_| done()),
        "cut" => File::open(path)?.set_len(0).map(|()| done()),
        "remove" => fs::remove_file(path).map(|()| done()),
        "mkdir" => fs::create_dir(path).map(|()| done()),
        "rename" => fs::rename(path, format!("{path}.old")).map(|()| done()),
        "copy" => fs::copy(path, format!("{path}.copy")).map(|_| done()),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}
