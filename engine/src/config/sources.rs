//! Where texts of the configuration come from: files, the environment, the command line, HTTP.
//!
//! ```text
//! --config gateway.yaml | file:PATH | env:NAME | yaml:TEXT | http://... | https://...     --set a.b=value
//! ${NAME}  ${env:NAME}  ${file:PATH}  ${http://...}  ${https://...}                       inside values
//! ```
//!
//! The only part of the configuration that touches the world. Everything is bounded, and read once.

use std::path::Path;

use super::{Source, fetch};

/// Largest file that is read; the reader refuses texts above its own, smaller bound with a place.
const FILE_BYTES_MAX: usize = 64 << 20;
/// Largest text that stands for one value.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// Reads the texts of `--config` in order, then appends the `--set`s. The error is a line that names the text.
pub fn read_sources<P: AsRef<Path>>(files: &[P], sets: &[String]) -> Result<Vec<Source>, String> {
    let mut sources = Vec::with_capacity(files.len() + sets.len());
    for file in files {
        sources.push(read_source(file.as_ref())?);
    }
    sources.extend(sets.iter().cloned().map(Source::Set));
    Ok(sources)
}

/// What a reference in a value names, in this process: a variable by its name, a file by `file:PATH`, a page by its
/// address. `None` if there is none, or it is too large or no text.
pub fn look_up(name: &str) -> Option<String> {
    let bytes = match name.split_once(':') {
        None => return std::env::var(name).ok(),
        Some(("file", path)) => read_file(Path::new(path), VALUE_BYTES_MAX).ok()?,
        Some(("http" | "https", _)) => fetch::get(name, VALUE_BYTES_MAX).ok()?,
        Some(_) => return None,
    };
    String::from_utf8(bytes).ok()
}

/// The file that a `--config` names; `None` if it names something else.
pub fn file_of(given: &str) -> Option<&Path> {
    match given.split_once(':') {
        Some(("yaml" | "env" | "http" | "https", _)) => None,
        Some(("file", path)) => Some(Path::new(path)),
        _ => Some(Path::new(given)),
    }
}

/// One `--config`. Without a scheme it is a path; so is what has a scheme of one letter, or one we do not know.
fn read_source(given: &Path) -> Result<Source, String> {
    let (scheme, rest) = given.to_str().and_then(|text| text.split_once(':')).unwrap_or_default();
    let name = given.display().to_string();
    let bytes = match scheme {
        "yaml" => return Ok(Source::File { name: "--config yaml".to_owned(), text: rest.to_owned() }),
        "env" => {
            let text = std::env::var(rest);
            let text = text.map_err(|error| format!("cannot read {name}: {error}; set it, or remove this --config"))?;
            return Ok(Source::File { name, text });
        }
        "http" | "https" => fetch::get(&name, FILE_BYTES_MAX)
            .map_err(|error| format!("cannot read {name}: {error}; check the address given with --config"))?,
        _ => {
            // The Collector's people write `file:` before the path.
            let path = if scheme == "file" { Path::new(rest) } else { given };
            let name = path.display().to_string();
            let bytes = read_file(path, FILE_BYTES_MAX).map_err(|error| unreadable(&name, &error))?;
            return Ok(Source::File { text: text_of(bytes, &name)?, name });
        }
    };
    Ok(Source::File { text: text_of(bytes, &name)?, name })
}

fn unreadable(name: &str, error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::FileTooLarge {
        return format!("{name} is larger than {FILE_BYTES_MAX} bytes; is it a configuration?");
    }
    format!("cannot read {name}: {error}; check the path given with --config")
}

fn text_of(bytes: Vec<u8>, name: &str) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("{name} is not UTF-8 (byte {at}); save it as UTF-8")
    })
}

fn read_file(path: &Path, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    use std::io::Read;

    let file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &str) -> Result<(String, String), String> {
        match read_sources(&[given], &[])?.pop() {
            Some(Source::File { name, text }) => Ok((name, text)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_config_is_a_path_a_file_a_variable_or_a_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml").display().to_string();
        std::fs::write(&path, "a: 1\n").unwrap();
        for given in [path.clone(), format!("file:{path}")] {
            assert_eq!(read(&given), Ok((path.clone(), "a: 1\n".to_owned())));
        }
        // Cargo sets it for every test.
        let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        assert_eq!(read("env:CARGO_MANIFEST_DIR"), Ok(("env:CARGO_MANIFEST_DIR".to_owned(), manifest)));
        assert_eq!(read("yaml:a::b: 1"), Ok(("--config yaml".to_owned(), "a::b: 1".to_owned())));
    }

    #[test]
    fn what_cannot_be_read_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("binary.yaml").display().to_string();
        std::fs::write(&path, [0xff]).unwrap();
        for (given, words) in [
            ("nowhere.yaml", "cannot read nowhere.yaml"),
            ("file:nowhere.yaml", "cannot read nowhere.yaml"),
            ("env:NOT_SET_ANYWHERE", "cannot read env:NOT_SET_ANYWHERE"),
            ("http://127.0.0.1:1/a.yaml", "cannot read http://127.0.0.1:1/a.yaml"),
            (path.as_str(), "not UTF-8"),
        ] {
            let error = read(given).unwrap_err();
            assert!(error.contains(words) && error.contains(';'), "{error}");
        }
    }

    #[test]
    fn values_are_looked_up_in_files_and_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "secret\n").unwrap();
        assert_eq!(look_up(&format!("file:{}", path.display())).as_deref(), Some("secret\n"));
        std::fs::write(&path, vec![b'x'; VALUE_BYTES_MAX + 1]).unwrap();
        assert_eq!(look_up(&format!("file:{}", path.display())), None);
        assert_eq!(look_up("file:/nowhere"), None);
        assert!(look_up("CARGO_MANIFEST_DIR").is_some());
        assert_eq!(look_up("vault:secret"), None);
    }
}
