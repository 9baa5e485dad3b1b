//! Path patterns: `*`, `?`, `[a-z]`, `[!a-z]`, `{a,b}`, and `**` for any number of folders.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use regex::bytes::Regex;

use crate::error::{Error, Result};

/// Most patterns that the braces of one may stand for.
const BRACES_MAX: usize = 256;

/// One pattern.
#[derive(Debug, Clone)]
pub(crate) struct Glob {
    /// The pattern with its braces written out.
    variants: Vec<Variant>,
}

#[derive(Debug, Clone)]
struct Variant {
    whole: Regex,
    /// The folders that need no look.
    base: PathBuf,
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Literal(String),
    Pattern(Regex),
    /// `**`
    AnyDepth,
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`Error::Glob`] for a bracket or brace without end, a relative pattern that begins with none of `*`, or too many
    /// braces.
    pub(crate) fn new(pattern: &str) -> Result<Self> {
        let fail = |reason: &str| Error::Glob { pattern: pattern.to_owned(), reason: reason.to_owned() };
        if pattern.is_empty() {
            return Err(fail("it is empty"));
        }
        let mut variants = Vec::new();
        for text in braces(pattern).map_err(fail)? {
            let regex = |regex: String| Regex::new(&regex).map_err(|_| fail("a bracket holds no valid range"));
            let whole = regex(format!("(?s-u)^{}$", translate(&text).map_err(fail)?))?;
            let mut base = PathBuf::from(if text.starts_with('/') { "/" } else { "." });
            let mut parts = Vec::new();
            for part in text.split('/').filter(|part| !part.is_empty()) {
                let part = if part == "**" {
                    Part::AnyDepth
                } else if part.contains(['*', '?', '[']) {
                    Part::Pattern(regex(format!("(?s-u)^{}$", translate(part).map_err(fail)?))?)
                } else {
                    Part::Literal(part.to_owned())
                };
                parts.push(part);
            }
            while parts.len() > 1
                && let Some(Part::Literal(name)) = parts.first()
            {
                base.push(name);
                parts.remove(0);
            }
            variants.push(Variant { whole, base, parts });
        }
        Ok(Self { variants })
    }

    /// Says whether `path` matches.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        self.variants.iter().any(|variant| variant.whole.is_match(path.as_os_str().as_bytes()))
    }

    /// Hands every path that matches to `found`, files and others alike, until it returns `false`. Folders that cannot be
    /// read are handed to `failed`. Links to folders are followed, but not below `**`.
    pub(crate) fn walk(&self, found: &mut dyn FnMut(PathBuf) -> bool, failed: &mut dyn FnMut(&Path, std::io::Error)) {
        for variant in &self.variants {
            if !descend(&variant.base, &variant.parts, found, failed, 0) {
                return;
            }
        }
    }
}

/// Deepest folder below `**`.
const DEPTH_MAX: usize = 64;

fn descend(
    dir: &Path,
    parts: &[Part],
    found: &mut dyn FnMut(PathBuf) -> bool,
    failed: &mut dyn FnMut(&Path, std::io::Error),
    depth: usize,
) -> bool {
    let Some((part, rest)) = parts.split_first() else { return true };
    if depth > DEPTH_MAX {
        failed(dir, std::io::Error::other("folders are nested too deeply"));
        return true;
    }
    if let Part::Literal(name) = part {
        let path = dir.join(name);
        if rest.is_empty() {
            return !path.exists() || found(path);
        }
        return !path.is_dir() || descend(&path, rest, found, failed, depth + 1);
    }
    if matches!(part, Part::AnyDepth) && !rest.is_empty() && !descend(dir, rest, found, failed, depth + 1) {
        return false;
    }
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                failed(dir, error);
            }
            return true;
        }
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                failed(dir, error);
                return true;
            }
        };
        let path = entry.path();
        let kind = entry.file_type();
        let go_on = match part {
            Part::AnyDepth if kind.is_ok_and(|kind| kind.is_dir()) => descend(&path, parts, found, failed, depth + 1),
            Part::AnyDepth if rest.is_empty() => found(path),
            Part::Pattern(regex) if regex.is_match(entry.file_name().as_bytes()) => {
                if rest.is_empty() {
                    found(path)
                } else {
                    !path.is_dir() || descend(&path, rest, found, failed, depth + 1)
                }
            }
            _ => true,
        };
        if !go_on {
            return false;
        }
    }
    true
}

/// Writes out the braces of a pattern.
fn braces(pattern: &str) -> Result<Vec<String>, &'static str> {
    let mut done = Vec::new();
    let mut todo = vec![pattern.to_owned()];
    while let Some(text) = todo.pop() {
        if done.len() + todo.len() > BRACES_MAX {
            return Err("its braces stand for too many patterns");
        }
        let Some((before, rest)) = text.split_once('{') else {
            if text.contains('}') {
                return Err("a brace is closed that was not opened");
            }
            done.push(text);
            continue;
        };
        let (mut depth, mut start, mut options, mut end) = (0, 0, Vec::new(), None);
        for (at, c) in rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' if depth == 0 => {
                    options.push(rest.get(start..at).unwrap_or_default());
                    start = at + 1;
                }
                '}' => {
                    options.push(rest.get(start..at).unwrap_or_default());
                    end = Some(at + 1);
                    break;
                }
                _ => {}
            }
        }
        let Some(after) = end.and_then(|end| rest.get(end..)) else { return Err("a brace is not closed") };
        // Pushed in reverse, so that the order of the pattern is kept.
        todo.extend(options.iter().rev().map(|option| format!("{before}{option}{after}")));
    }
    Ok(done)
}

/// Translates a pattern without braces to a regular expression.
fn translate(pattern: &str) -> Result<String, &'static str> {
    let mut regex = String::new();
    let mut rest = pattern.chars().peekable();
    let mut at_start = true;
    while let Some(c) = rest.next() {
        let was_at_start = std::mem::replace(&mut at_start, c == '/');
        match c {
            '*' if rest.peek() == Some(&'*') => {
                rest.next();
                if was_at_start && rest.peek() == Some(&'/') {
                    rest.next();
                    regex.push_str("(?:.*/)?");
                    at_start = true;
                } else {
                    regex.push_str(".*");
                }
            }
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '[' => {
                regex.push('[');
                if rest.peek().is_some_and(|c| matches!(c, '!' | '^')) {
                    rest.next();
                    regex.push('^');
                }
                let mut first = true;
                loop {
                    match rest.next() {
                        None => return Err("a bracket is not closed"),
                        Some(']') if !first => break,
                        Some('-') => regex.push('-'),
                        Some(c) if c.is_ascii_alphanumeric() => regex.push(c),
                        Some(c) => regex.push_str(&regex::escape(&c.to_string())),
                    }
                    first = false;
                }
                regex.push(']');
            }
            // Without Unicode mode a character beyond ASCII is matched as its bytes, which is what paths are.
            c => regex.push_str(&regex::escape(&c.to_string())),
        }
    }
    Ok(regex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let glob = Glob::new(pattern).unwrap();
        for path in yes {
            assert!(glob.matches(Path::new(path)), "{pattern} should match {path}");
        }
        for path in no {
            assert!(!glob.matches(Path::new(path)), "{pattern} should not match {path}");
        }
    }

    #[test]
    fn patterns_match_as_a_shell_user_expects() {
        check("/var/log/*.log", &["/var/log/a.log", "/var/log/.log"], &["/var/log/a/b.log", "/var/log/a.log.1"]);
        check("/var/log/**/*.log", &["/var/log/a.log", "/var/log/a/b/c.log"], &["/var/lib/a.log"]);
        check("/l/{syslog,auth.log}", &["/l/syslog", "/l/auth.log"], &["/l/authxlog", "/l/{syslog}"]);
        check("/l/a[0-9].?[!x]", &["/l/a1.zy"], &["/l/ab.zy", "/l/a1.zx"]);
        check("**/*.{gz,x{z,y}}", &["/a/b.gz", "a.xz", "/q.xy"], &["/a/b.log"]);
        check("/l/로그*.log", &["/l/로그1.log"], &["/l/log.log"]);
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in ["", "/a[", "/a[z-a]", "/{a", "/a}", &format!("/{}", "{a,b,c,d,e,f,g}".repeat(9))] {
            assert!(Glob::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_walk_finds_what_matches() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a.log", "x/b.log", "x/y/c.log", "x/y/d.txt"] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        // A loop of links must not be walked for ever.
        std::os::unix::fs::symlink(dir.path(), dir.path().join("x/loop")).unwrap();
        let walk = |pattern: &str| {
            let mut found = Vec::new();
            let glob = Glob::new(&format!("{}/{pattern}", dir.path().display())).unwrap();
            let mut take = |path: PathBuf| {
                found.push(path.strip_prefix(dir.path()).unwrap().display().to_string());
                true
            };
            glob.walk(&mut take, &mut |path, error| panic!("{}: {error}", path.display()));
            found.sort();
            found
        };
        assert_eq!(walk("**/*.log"), ["a.log", "x/b.log", "x/y/c.log"]);
        assert_eq!(walk("*/*.log"), ["x/b.log"]);
        assert_eq!(walk("x/y/{c.log,d.txt,none}"), ["x/y/c.log", "x/y/d.txt"]);
        assert_eq!(walk("none/*.log"), Vec::<String>::new());
    }
}
