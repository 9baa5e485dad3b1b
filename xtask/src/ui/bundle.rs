//! Makes the files that the server embeds from the compiled module, the style sheets and the page.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use wasm_bindgen_cli_support::Bindgen;

use super::fingerprint::Fingerprint;

/// One file of the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// The path below the bundle's folder, which is also the path of its URL.
    pub path: String,
    /// Its size.
    pub size_bytes: usize,
    /// The size of its `.gz` sibling.
    pub gzip_bytes: usize,
}

/// Writes the bundle for the compiled `module` to `dist`, replacing what was there, and returns its files.
///
/// Everything but `index.html` has a hash of its content in its name, so that browsers may keep it for ever. Each file has
/// a `.gz` sibling.
///
/// # Errors
/// When a source is missing, the bindings cannot be made, or writing fails.
pub(crate) fn write(root: &Path, module: &Path, dist: &Path) -> Result<Vec<File>> {
    let ui = root.join("ui");
    let Bindings { glue, wasm, snippets } = bindings(module)?;
    let css = style_sheet(&ui.join("src"))?;

    let wasm_path = asset_path("daybook", "wasm", &wasm);
    // The module starts itself, so that the page needs no inline script and a strict content policy can hold.
    let glue = format!("{glue}\n__wbg_init({{ module_or_path: '/{wasm_path}' }});\n").into_bytes();
    let glue_path = asset_path("daybook", "js", &glue);
    let css_path = asset_path("daybook", "css", css.as_bytes());
    let theme = read(&ui.join("public/theme.js"))?;
    let theme_path = asset_path("theme", "js", &theme);
    let icon = read(&ui.join("public/favicon.svg"))?;
    let icon_path = asset_path("favicon", "svg", &icon);

    let page = String::from_utf8(read(&ui.join("index.html"))?).context("ui/index.html is not UTF-8")?;
    let names =
        [("css", &css_path), ("theme", &theme_path), ("icon", &icon_path), ("js", &glue_path), ("wasm", &wasm_path)];
    let page = fill(&page, &names.map(|(name, path)| (name, format!("/{path}"))))?;

    let mut files = vec![
        ("index.html".to_owned(), page.into_bytes()),
        (css_path, css.into_bytes()),
        (theme_path, theme),
        (icon_path, icon),
        (glue_path, glue),
        (wasm_path, wasm),
    ];
    files.extend(snippets);
    replace(dist, &files)
}

/// What wasm-bindgen makes of a module.
struct Bindings {
    glue: String,
    wasm: Vec<u8>,
    /// JavaScript that dependencies bring, by the path at which the glue imports it.
    snippets: Vec<(String, Vec<u8>)>,
}

/// Runs wasm-bindgen.
fn bindings(module: &Path) -> Result<Bindings> {
    let mut output = Bindgen::new()
        .input_path(module)
        .out_name("daybook")
        .web(true)
        .and_then(|bindgen| {
            bindgen.typescript(false).omit_default_module_path(true);
            bindgen.remove_name_section(true).remove_producers_section(true).generate_output()
        })
        .with_context(|| format!("making the bindings of {}", module.display()))?;
    let inline = output.snippets().iter().flat_map(|(id, sources)| {
        let file = move |(i, source): (usize, &String)| {
            (format!("assets/snippets/{id}/inline{i}.js"), source.clone().into_bytes())
        };
        sources.iter().enumerate().map(file)
    });
    let modules = output.local_modules().iter();
    let modules = modules.map(|(path, source)| (format!("assets/snippets/{path}"), source.clone().into_bytes()));
    let mut snippets: Vec<_> = inline.chain(modules).collect();
    snippets.sort();
    let wasm = output.wasm_mut().emit_wasm();
    Ok(Bindings { glue: output.js().to_owned(), wasm, snippets })
}

/// Joins the style sheets that lie beside the components: `base.css` first, then the others by path.
fn style_sheet(src: &Path) -> Result<String> {
    let mut paths = Vec::new();
    collect_css(src, &mut paths)?;
    paths.sort_by_key(|path| (path.file_name().is_none_or(|name| name != "base.css"), path.clone()));
    let mut sheet = String::new();
    for path in paths {
        let css = String::from_utf8(read(&path)?).with_context(|| format!("{} is not UTF-8", path.display()))?;
        sheet.push_str(&shrink(&css));
    }
    Ok(sheet)
}

fn collect_css(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry.with_context(|| format!("listing {}", folder.display()))?.path();
        if path.is_dir() {
            collect_css(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "css") {
            paths.push(path);
        }
    }
    Ok(())
}

/// Takes comments, indentation and empty lines out of a style sheet. Strings are not looked into: ours hold no `/*`.
fn shrink(css: &str) -> String {
    let mut plain = String::with_capacity(css.len());
    let mut rest = css;
    while let Some((before, comment)) = rest.split_once("/*") {
        plain.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    plain.lines().map(str::trim).filter(|line| !line.is_empty()).fold(String::new(), |mut sheet, line| {
        sheet.push_str(line);
        sheet.push('\n');
        sheet
    })
}

/// Puts values in place of `{{name}}`.
fn fill(template: &str, values: &[(&str, String)]) -> Result<String> {
    let mut page = template.to_owned();
    for (name, value) in values {
        let slot = format!("{{{{{name}}}}}");
        if !page.contains(&slot) {
            bail!("ui/index.html has no {slot}");
        }
        page = page.replace(&slot, value);
    }
    if let Some((_, rest)) = page.split_once("{{") {
        bail!("ui/index.html has an unknown slot: {{{{{}", rest.lines().next().unwrap_or_default());
    }
    Ok(page)
}

fn asset_path(stem: &str, extension: &str, content: &[u8]) -> String {
    format!("assets/{stem}-{}.{extension}", Fingerprint::of_bytes(content))
}

/// Writes `files` beside `dist` and then puts them in its place, so that `dist` is whole or absent, never half.
fn replace(dist: &Path, files: &[(String, Vec<u8>)]) -> Result<Vec<File>> {
    let fresh = dist.with_extension("tmp");
    remove(&fresh)?;
    let mut written = Vec::new();
    for (path, content) in files {
        let compressed = gzip(content)?;
        let to = fresh.join(path);
        let folder = to.parent().context("a file of the bundle has a folder")?;
        std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        std::fs::write(&to, content).with_context(|| format!("writing {}", to.display()))?;
        let to = fresh.join(format!("{path}.gz"));
        std::fs::write(&to, &compressed).with_context(|| format!("writing {}", to.display()))?;
        written.push(File { path: path.clone(), size_bytes: content.len(), gzip_bytes: compressed.len() });
    }
    remove(dist)?;
    std::fs::rename(&fresh, dist).with_context(|| format!("renaming {} to {}", fresh.display(), dist.display()))?;
    Ok(written)
}

fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).context("compressing")?;
    encoder.finish().context("compressing")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Formats the sizes of the bundle's files, one a line, with their sum.
pub(crate) fn size_table(files: &[File]) -> String {
    let mut table = String::new();
    let kilobytes = |bytes: usize| bytes as f64 / 1000.0;
    let mut line = |path: &str, size: usize, gzip: usize| {
        writeln!(table, "ui: {:8.1} kB {:8.1} kB gzip  {path}", kilobytes(size), kilobytes(gzip))
            .expect("writing to a string does not fail");
    };
    for file in files {
        line(&file.path, file.size_bytes, file.gzip_bytes);
    }
    line("in all", files.iter().map(|f| f.size_bytes).sum(), files.iter().map(|f| f.gzip_bytes).sum());
    table
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn every_file_has_a_compressed_sibling_with_the_same_content() {
        let dir = tempfile::tempdir().unwrap();
        let dist = dir.path().join("dist");
        let files = [("index.html".to_owned(), b"page".repeat(100)), ("assets/a.js".to_owned(), b"code".to_vec())];
        let written = replace(&dist, &files).unwrap();
        assert_eq!(written.len(), 2);
        for (path, content) in &files {
            assert_eq!(&std::fs::read(dist.join(path)).unwrap(), content);
            let mut unpacked = Vec::new();
            let compressed = std::fs::File::open(dist.join(format!("{path}.gz"))).unwrap();
            flate2::read::GzDecoder::new(compressed).read_to_end(&mut unpacked).unwrap();
            assert_eq!(&unpacked, content);
        }
    }

    #[test]
    fn files_of_an_earlier_build_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let dist = dir.path().join("dist");
        replace(&dist, &[("assets/old.js".to_owned(), vec![1])]).unwrap();
        replace(&dist, &[("assets/new.js".to_owned(), vec![2])]).unwrap();
        assert!(!dist.join("assets/old.js").exists() && dist.join("assets/new.js").exists());
    }

    #[test]
    fn names_change_with_the_content() {
        assert_eq!(asset_path("a", "js", b"x"), asset_path("a", "js", b"x"));
        assert_ne!(asset_path("a", "js", b"x"), asset_path("a", "js", b"y"));
    }

    #[test]
    fn a_page_with_a_missing_or_unknown_slot_is_refused() {
        let js = [("js", "/assets/a.js".to_owned())];
        assert_eq!(fill("<script src='{{js}}'>", &js).unwrap(), "<script src='/assets/a.js'>");
        assert!(fill("<script>", &js).unwrap_err().to_string().contains("{{js}}"));
        assert!(fill("{{js}} {{other}}", &js).unwrap_err().to_string().contains("other"));
    }

    #[test]
    fn comments_and_indentation_leave_the_style_sheet() {
        assert_eq!(shrink("/* a\n b */\n.x {\n  color: red; /* c */\n}\n\n"), ".x {\ncolor: red;\n}\n");
        assert_eq!(shrink(".x{} /* never closed"), ".x{}\n");
    }
}
