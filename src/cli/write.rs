//! Where an answer goes: standard output, or a file that appears whole or not at all.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use runtally::Error;

/// Writes to standard output. A reader that has seen enough and closed the pipe is no failure; then what
/// was written is unknown.
pub(super) fn to_stdout<T: Default>(
    write: impl FnOnce(&mut dyn Write) -> io::Result<T>,
) -> Result<T, Error> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = write(&mut out).and_then(|written| out.flush().map(|()| written));
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(T::default()),
        Err(error) => Err(unwritable(Path::new("standard output"), error)),
        Ok(written) => Ok(written),
    }
}

/// Writes to a file that appears whole or not at all.
pub(super) fn to_file<T>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<T>,
) -> Result<T, Error> {
    // A link keeps its place; a device or a pipe is written to, not replaced.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if target.exists() && !target.is_file() {
        let mut out = File::options()
            .write(true)
            .open(&target)
            .map_err(|error| unwritable(path, error))?;
        return write(&mut out).map_err(|error| unwritable(path, error));
    }
    let folder = target
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(permissions());
    let file = builder.tempfile_in(folder.unwrap_or(Path::new(".")));
    let file = file.map_err(|error| unwritable(path, error))?;
    let mut out = io::BufWriter::new(file);
    let written = write(&mut out).map_err(|error| unwritable(path, error))?;
    let file = out
        .into_inner()
        .map_err(|error| unwritable(path, error.into_error()))?;
    file.as_file()
        .sync_all()
        .map_err(|error| unwritable(path, error))?;
    file.persist(&target)
        .map_err(|error| unwritable(path, error.error))?;
    Ok(written)
}

/// Those of an ordinary new file, narrowed by the process's mask.
#[cfg(unix)]
fn permissions() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

fn unwritable(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        action: "cannot write",
        source,
    }
}
