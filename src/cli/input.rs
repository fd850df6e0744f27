//! A file a command was given, or standard input.

use std::io::Read;
use std::path::Path;

/// Where a text comes from.
pub enum Input<'p> {
    /// Standard input, written `-`.
    Stdin,
    /// A file.
    File(&'p Path),
}

/// More than this is no file somebody wrote.
const MOST_BYTES: u64 = 64 << 20;

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file is not there.
    #[error("there is no such file; is the path right?")]
    Missing,
    /// It may not be read.
    #[error("it may not be read by this user; change its permissions")]
    Forbidden,
    /// It is a directory.
    #[error("it is a directory; name the files in it")]
    Directory,
    /// It does not end.
    #[error("it is larger than 64 MiB, which no pipeline is")]
    Large,
    /// Anything else.
    #[error("it cannot be read: {0}")]
    Other(std::io::Error),
}

impl<'p> Input<'p> {
    /// What a path of the command line means.
    pub fn of(path: &'p Path) -> Self {
        if path.as_os_str() == "-" { Input::Stdin } else { Input::File(path) }
    }

    /// What people call it.
    pub fn name(&self) -> String {
        match self {
            Input::Stdin => "-".to_owned(),
            Input::File(path) => path.display().to_string(),
        }
    }

    /// All of it.
    pub fn read(&self) -> Result<Vec<u8>, InputError> {
        let mut text = Vec::new();
        let read = match self {
            Input::Stdin => std::io::stdin().lock().take(MOST_BYTES + 1).read_to_end(&mut text),
            Input::File(path) => {
                std::fs::File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut text))
            }
        };
        match read.map_err(|error| (error.kind(), error)) {
            Ok(bytes) if bytes as u64 > MOST_BYTES => Err(InputError::Large),
            Ok(_) => Ok(text),
            Err((std::io::ErrorKind::NotFound, _)) => Err(InputError::Missing),
            Err((std::io::ErrorKind::PermissionDenied, _)) => Err(InputError::Forbidden),
            Err((std::io::ErrorKind::IsADirectory, _)) => Err(InputError::Directory),
            Err((_, error)) => Err(InputError::Other(error)),
        }
    }
}
