//! Reading what the command line names.

use std::{fs, io::Read, path::Path};

use shared::secrets::{Keyring, KeyringError, Secret};

use crate::{Stop, Surroundings};

/// The bytes of a file, or of the standard input for `-`.
pub(crate) fn read(path: &Path, surroundings: &mut Surroundings) -> Result<Vec<u8>, Stop> {
    let unreadable = |error| Stop::Asked(format!("{} cannot be read: {error}", path.display()));
    if path != Path::new("-") {
        return fs::read(path).map_err(unreadable);
    }
    let mut bytes = Vec::new();
    surroundings.input.read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// The keyring of `--secret-file`, else of POSTHOUSE_SECRET; `None` if neither is given.
pub(crate) fn keyring(file: Option<&Path>, environment: Option<&Secret>) -> Result<Option<Keyring>, Stop> {
    if let Some(file) = file {
        let text =
            fs::read_to_string(file).map_err(|error| Stop::Asked(format!("{} cannot be read: {error}", file.display())))?;
        return parsed(&text, &file.display().to_string()).map(Some);
    }
    environment.map(|secret| parsed(secret.expose(), "POSTHOUSE_SECRET")).transpose()
}

fn parsed(text: &str, whence: &str) -> Result<Keyring, Stop> {
    Keyring::parse(text).map_err(|error: KeyringError| Stop::Asked(format!("{whence}: {error}")))
}
