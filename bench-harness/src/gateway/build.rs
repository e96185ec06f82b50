//! Builds the release gateway if it is missing or older than its sources.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// Crates and files the gateway is made from.
const SOURCES: [&str; 6] = ["codecs", "ottl", "sampling", "engine", "Cargo.toml", "Cargo.lock"];

/// The path of an up-to-date release gateway.
pub(crate) fn release_binary() -> io::Result<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = target_folder(&workspace)?;
    let binary = target.join("release").join("tracegate");
    let built = std::fs::metadata(&binary).and_then(|metadata| metadata.modified()).ok();
    let changed = SOURCES.iter().filter_map(|source| newest(&workspace.join(source))).max();
    if built.is_some() && built >= changed {
        return Ok(binary);
    }
    eprintln!("building the release gateway ...");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "-p", "tracegate", "--manifest-path"])
        .arg(workspace.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()?;
    if !status.success() {
        return Err(io::Error::other("the release gateway does not build"));
    }
    Ok(binary)
}

/// The folder this harness was built in, so that both share their dependencies.
fn target_folder(workspace: &Path) -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let profile = own.ancestors().find(|folder| folder.ends_with("release") || folder.ends_with("debug"));
    let shared = profile.and_then(Path::parent).map(Path::to_path_buf);
    Ok(shared.unwrap_or_else(|| workspace.join("target")))
}

/// When anything below `path` last changed.
fn newest(path: &Path) -> Option<SystemTime> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).ok()?;
        return entries.filter_map(|entry| newest(&entry.ok()?.path())).max();
    }
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
