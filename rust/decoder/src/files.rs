//! The files of a checkpoint: named by its directory, read as what they are.
//!
//! A directory may come from anywhere. Only plain files in it are opened, since a pipe or a device would never end, and
//! an index names files of its own directory alone.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde_json::Value;

use crate::error::Error;

/// No file of settings is larger; an index of a thousand shards is a hundredth of it.
const MOST_TEXT: u64 = 64 << 20;

/// Refuses a directory that holds anything but files and directories; links count as what they lead to.
pub(crate) fn check(directory: &Path) -> Result<(), Error> {
    let failed = |source| Error::Io { path: directory.to_owned(), source };
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // A link to nowhere is missed by whoever needs it.
        if std::fs::metadata(&path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            return Err(Error::Format { path, reason: "neither a file nor a directory".into() });
        }
    }
    Ok(())
}

/// The JSON value in a file.
pub(crate) fn read_json(path: &Path) -> Result<Value, Error> {
    let failed = |source| Error::Io { path: path.to_owned(), source };
    let invalid = |reason: String| Error::Format { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MOST_TEXT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_TEXT {
        return Err(invalid(format!("larger than {MOST_TEXT} bytes")));
    }
    serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))
}

/// `model.safetensors`, or the files that `model.safetensors.index.json` names.
pub(crate) fn weight_files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let single = directory.join("model.safetensors");
    let index = directory.join("model.safetensors.index.json");
    if single.exists() || !index.exists() {
        return Ok(vec![single]);
    }
    let value = read_json(&index)?;
    let invalid = |reason: String| Error::Format { path: index.clone(), reason };
    let map = value.get("weight_map").and_then(Value::as_object).ok_or_else(|| invalid("no weight_map".into()))?;
    let mut names = BTreeSet::new();
    for (weight, name) in map {
        let plain = name.as_str().filter(|name| Path::new(name).file_name() == Some(OsStr::new(name)));
        names.insert(plain.ok_or_else(|| invalid(format!("weight_map: {weight} is in no file of this directory")))?);
    }
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

/// A file's bytes.
pub(crate) fn map(path: &Path) -> Result<Mmap, Error> {
    let failed = |source| Error::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // SAFETY: the map is read and dropped within the load; a checkpoint that another process cuts short meanwhile
    // ends this one, as it would any reader that maps it.
    unsafe { Mmap::map(&file) }.map_err(failed)
}
