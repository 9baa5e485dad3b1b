//! Lists the files of `ui/dist` for `src/server/assets.rs` to embed; none when the UI was not built.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?);
    let dist = root.join("ui/dist");
    // A path that is not there would make every build run this again, so its parent is watched then.
    println!("cargo::rerun-if-changed={}", if dist.is_dir() { "ui/dist" } else { "ui" });
    let mut files = Vec::new();
    if dist.is_dir() {
        walk(&dist, &mut files)?;
    }
    files.sort();
    let mut code = String::from("/// The files of the bundle.\nstatic ASSETS: &[Asset] = &[\n");
    for file in files.iter().filter(|file| file.extension().is_none_or(|ending| ending != "gz")) {
        let name = file.strip_prefix(&dist).map_err(io::Error::other)?.display().to_string();
        let gzip = PathBuf::from(format!("{}.gz", file.display()));
        let include = |path: &Path| {
            if path.is_file() {
                format!("include_bytes!({:?})", path.display().to_string())
            } else {
                "b\"\"".to_owned()
            }
        };
        let mut hasher = DefaultHasher::new();
        fs::read(file)?.hash(&mut hasher);
        let etag = format!("\"{:016x}\"", hasher.finish());
        writeln!(
            code,
            "    Asset {{ path: {name:?}, plain: {}, gzip: {}, etag: {etag:?} }},",
            include(file),
            include(&gzip)
        )
        .map_err(io::Error::other)?;
    }
    code.push_str("];\n");
    fs::write(PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?).join("ui_files.rs"), code)
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { walk(&path, files)? } else { files.push(path) }
    }
    Ok(())
}
