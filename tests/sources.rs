//! Rules for the source files that the compiler does not check: dependencies, layers, registries, unsafe code, lengths
//! of lines.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The Rust files below a folder of the repository, as paths relative to that folder, with their text.
fn sources(folder: &str) -> BTreeMap<PathBuf, String> {
    let (top, mut files) = (root().join(folder), BTreeMap::new());
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.insert(path.strip_prefix(&top).unwrap().to_path_buf(), text);
            }
        }
    }
    files
}

/// The module path of a file below `src/`: `nn/kernel/mod.rs` is `["nn", "kernel"]`.
fn module_of(file: &Path) -> Vec<String> {
    let mut parts: Vec<String> = file.with_extension("").iter().map(|p| p.to_str().unwrap().to_string()).collect();
    if ["mod", "lib"].contains(&parts.last().unwrap().as_str()) {
        parts.pop();
    }
    parts
}

/// Code without comments, the contents of strings, and the unit tests at the end.
fn code(text: &str) -> String {
    let tests =
        ["mod ", "pub mod ", "pub(crate) mod ", "pub(super) mod "].map(|module| format!("\n#[cfg(test)]\n{module}"));
    let text = &text[..tests.iter().filter_map(|tests| text.find(tests)).min().unwrap_or(text.len())];
    let mut code = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => {
                while chars.peek().is_some_and(|c| *c != '\n') {
                    chars.next();
                }
            }
            '"' => {
                code.push('"');
                while let Some(c) = chars.next() {
                    match c {
                        '\\' => _ = chars.next(),
                        '"' => break,
                        _ => {}
                    }
                }
                code.push('"');
            }
            // A quote as a character would open a string.
            '\'' => {
                code.push('\'');
                let ahead: String = chars.clone().take(3).collect();
                if let Some(literal) = ["\"'", "\\\"'", "\\''", "\\\\'"].iter().find(|l| ahead.starts_with(**l)) {
                    chars.nth(literal.len() - 1);
                }
            }
            _ => code.push(c),
        }
    }
    code
}

/// The paths that a `use` names: `a::{b, c::{self, d as e}}` are a::b, a::c and a::c::d. With each path, the name that
/// it is known by.
fn expand(tree: &str, prefix: &[String], into: &mut Vec<(Vec<String>, String)>) {
    let tree = tree.trim();
    if let Some(open) = tree.find('{') {
        let mut prefix = prefix.to_vec();
        prefix.extend(tree[..open].split("::").map(str::trim).filter(|s| !s.is_empty()).map(String::from));
        let (inner, mut depth, mut start) = (&tree[open + 1..tree.rfind('}').unwrap()], 0, 0);
        for (i, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    expand(&inner[start..i], &prefix, into);
                    start = i + 1;
                }
                _ => {}
            }
        }
        expand(&inner[start..], &prefix, into);
        return;
    }
    let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
    let mut full = prefix.to_vec();
    full.extend(path.split("::").map(str::trim).filter(|s| !s.is_empty() && *s != "self").map(String::from));
    if let (false, Some(last)) = (path.is_empty(), full.last()) {
        let name = if alias.is_empty() { last.clone() } else { alias.trim().into() };
        into.push((full, name));
    }
}

/// Which file defines what, and which file uses which.
struct Graph {
    /// File by module path.
    files: BTreeMap<Vec<String>, PathBuf>,
    /// Re-exported items: module path and name, and the path of the item.
    exports: BTreeMap<(Vec<String>, String), Vec<String>>,
}

impl Graph {
    fn new(sources: &BTreeMap<PathBuf, String>) -> Graph {
        let mut graph = Graph { files: BTreeMap::new(), exports: BTreeMap::new() };
        for file in sources.keys().filter(|file| *file != Path::new("main.rs")) {
            graph.files.insert(module_of(file), file.clone());
        }
        for (file, text) in sources {
            let module = module_of(file);
            for (path, name) in uses(&code(text)).into_iter().filter(|u| u.0).map(|u| u.1) {
                if let Some(path) = graph.absolute(&module, &path) {
                    graph.exports.insert((module.clone(), name), path);
                }
            }
        }
        graph
    }

    /// A path as seen from a module, from the crate's root on; `None` for other crates.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Vec<String>> {
        let mut from = module.to_vec();
        let mut rest = path;
        match rest[0].as_str() {
            "crate" => (from, rest) = (Vec::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {}
            first => {
                from.push(first.into());
                if !self.files.contains_key(&from) {
                    return None;
                }
                rest = &rest[1..];
            }
        }
        while rest.first().is_some_and(|part| part == "super") {
            from.pop();
            rest = &rest[1..];
        }
        from.extend(rest.iter().cloned());
        Some(from)
    }

    /// The file that defines what an absolute path names.
    fn file(&self, path: &[String]) -> &Path {
        let mut path = path.to_vec();
        // A re-export may refer to another re-export.
        for _ in 0..8 {
            let length = (0..=path.len()).rev().find(|n| self.files.contains_key(&path[..*n])).unwrap();
            let export = path.get(length).and_then(|name| self.exports.get(&(path[..length].to_vec(), name.clone())));
            match export {
                Some(target) => path = [&target[..], &path[length + 1..]].concat(),
                None => return &self.files[&path[..length]],
            }
        }
        panic!("{path:?} is re-exported in a circle");
    }

    /// The files that a file uses. A module that only declares or re-exports its parts does not use them.
    fn used_by(&self, file: &Path, text: &str) -> BTreeSet<PathBuf> {
        let (module, code) = (module_of(file), code(text));
        let mut paths: Vec<Vec<String>> = uses(&code).into_iter().filter(|u| !u.0).map(|u| u.1.0).collect();
        paths.extend(inline(&code));
        let mut used = BTreeSet::new();
        for path in paths {
            if let Some(path) = self.absolute(&module, &path) {
                used.insert(self.file(&path).to_path_buf());
            }
        }
        used.remove(file);
        used
    }
}

/// The `use` declarations of a file: whether public, the path and the name.
fn uses(code: &str) -> Vec<(bool, (Vec<String>, String))> {
    let mut uses = Vec::new();
    for statement in code.split(';') {
        let statement = statement.trim_start();
        // Anything before the last line is code without a semicolon.
        let Some(at) = statement.rfind("use ").filter(|at| {
            let before = statement[..*at].rsplit('\n').next().unwrap().trim();
            before.is_empty() || before.starts_with("pub")
        }) else {
            continue;
        };
        let public = statement[..at].rsplit('\n').next().unwrap().trim().starts_with("pub");
        let mut paths = Vec::new();
        expand(&statement[at + 4..].replace('\n', " "), &[], &mut paths);
        uses.extend(paths.into_iter().map(|path| (public, path)));
    }
    uses
}

/// Paths in expressions and types, such as `crate::seed::rng` or `child::Type`.
fn inline(code: &str) -> Vec<Vec<String>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut paths = Vec::new();
    for line in code.lines().filter(|line| !line.trim_start().trim_start_matches("pub ").starts_with("use ")) {
        let mut rest = line;
        while let Some(at) = rest.find(|c: char| c.is_alphabetic() || c == '_') {
            let before = rest[..at].chars().next_back();
            let word = |c: char| is_word(c) || c == ':';
            let end = rest[at..].find(|c: char| !word(c)).map_or(rest.len(), |n| at + n);
            let path: Vec<String> = rest[at..end].split("::").filter(|s| !s.is_empty()).map(String::from).collect();
            if path.len() > 1 && !matches!(before, Some(':' | '.')) {
                paths.push(path);
            }
            rest = &rest[end..];
        }
    }
    paths
}

#[test]
fn no_files_depend_on_each_other_in_a_circle() {
    let sources = sources("src");
    let graph = Graph::new(&sources);
    let files: Vec<&PathBuf> = sources.keys().filter(|file| file.to_str() != Some("main.rs")).collect();
    let edges: BTreeMap<&Path, BTreeSet<PathBuf>> =
        files.iter().map(|file| (file.as_path(), graph.used_by(file, &sources[*file]))).collect();
    assert!(edges.values().map(BTreeSet::len).sum::<usize>() > 300, "the scan sees the edges");
    // What can be reached from each file.
    let reach = |start: &Path| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start.to_path_buf()]);
        while let Some(file) = open.pop() {
            for next in &edges[file.as_path()] {
                if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&Path, BTreeSet<PathBuf>> = edges.keys().map(|file| (*file, reach(file))).collect();
    let mut circles: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for file in edges.keys().filter(|file| reached[*file].contains(**file)) {
        let circle = reached[*file].iter().filter(|other| reached[other.as_path()].contains(*file));
        let circle: Vec<String> = circle.map(|f| f.display().to_string()).collect();
        let members = circle.clone();
        let within = edges[*file].iter().map(|f| f.display().to_string()).filter(|f| members.contains(f));
        let line = format!("{} -> {}", file.display(), within.collect::<Vec<_>>().join(" "));
        circles.entry(circle).or_default().push(line);
    }
    let text: Vec<String> = circles.values().map(|lines| lines.join("\n")).collect();
    assert!(circles.is_empty(), "{} circles:\n{}", circles.len(), text.join("\n\n"));
}

/// Layer by module, from the comments in `lib.rs`.
fn layers() -> BTreeMap<String, u32> {
    let mut layers = BTreeMap::new();
    let mut layer = None;
    for line in read("src/lib.rs").lines() {
        if let Some(number) = line.strip_prefix("// ").and_then(|l| l.split(':').next()).and_then(|n| n.parse().ok()) {
            layer = Some(number);
        }
        if let Some(name) = line.strip_prefix("pub mod ").or(line.strip_prefix("mod ")) {
            layers.insert(
                name.trim_end_matches(';').to_string(),
                layer.expect("every module follows the number of its layer"),
            );
        }
    }
    layers
}

#[test]
fn no_module_uses_one_of_a_higher_layer() {
    let (layers, sources) = (layers(), sources("src"));
    assert!(layers.len() > 20);
    let graph = Graph::new(&sources);
    let top = |file: &Path| file.with_extension("").iter().next().unwrap().to_str().unwrap().to_string();
    for (file, text) in sources.iter().filter(|(file, _)| layers.contains_key(&top(file))) {
        let layer = layers[&top(file)];
        for used in graph.used_by(file, text) {
            let other = layers.get(&top(&used)).unwrap_or_else(|| panic!("{} is in no layer", used.display()));
            assert!(*other <= layer, "{}: layer {layer} uses {} of layer {other}", file.display(), used.display());
        }
    }
}

/// Asserts that no file breaks the rule.
fn assert_none(rule: &str, offences: Vec<(String, String)>) {
    let lines: Vec<String> = offences.into_iter().map(|(file, what)| format!("{file}: {what}")).collect();
    assert!(lines.is_empty(), "{rule}:\n{}", lines.join("\n"));
}

#[test]
fn lines_have_at_most_120_columns() {
    let mut offences = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        for (file, text) in sources(folder) {
            for (number, line) in text.lines().enumerate().filter(|(_, line)| line.chars().count() > 120) {
                let start: String = line.trim_start().chars().take(60).collect();
                offences.push((format!("{folder}/{}", file.display()), format!("line {}: {start}...", number + 1)));
            }
        }
    }
    assert_none("long lines", offences);
}

#[test]
fn errors_progress_and_commands_are_left_to_their_modules() {
    let mut offences = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for (file, text) in sources("src") {
        let name = format!("src/{}", file.display());
        let code = code(&text);
        if !file.starts_with("cmd") {
            if code.contains("clap::") {
                offences[0].push((name.clone(), "only cmd uses clap".into()));
            }
            if text.contains("Run: wbc") {
                offences[1].push((name.clone(), "only cmd names the command that helps".into()));
            }
        }
        if name != "src/progress.rs" && (code.contains("progress.begin(") || code.contains("progress.end(")) {
            offences[3].push((name.clone(), "call progress.task, which always ends".into()));
        }
        if name != "src/error.rs" {
            for (at, _) in code.match_indices("Error::Setting {") {
                // A pattern may leave fields out.
                if !code[at..].split('}').next().unwrap().contains("..") {
                    offences[2].push((name.clone(), "call Error::setting".into()));
                }
            }
        }
    }
    for (rule, offences) in ["clap", "Run: wbc", "Error::Setting", "progress"].into_iter().zip(offences) {
        assert_none(rule, offences);
    }
}

#[test]
fn dfdx_and_unsafe_code_stay_where_they_are() {
    for (file, text) in sources("src") {
        let learns = ["nn", "models", "train", "run"].iter().any(|module| file.starts_with(module));
        assert!(learns || !text.contains("dfdx::"), "{}: dfdx is for the modules that learn", file.display());
        let blocks = ["unsafe {", "unsafe impl "].iter().map(|start| text.matches(start).count()).sum::<usize>();
        let allowed = match file.to_str().unwrap() {
            "memory.rs" | "nn/kernel/prefetch.rs" => 1,
            // Instructions that have no safe functions.
            "nn/kernel/bf16_units.rs" => usize::MAX,
            // They call the driver.
            file if file.starts_with("nn/cuda/") => usize::MAX,
            _ => 0,
        };
        assert!(blocks <= allowed, "{}: unsafe code is only in four places", file.display());
        assert_eq!(blocks, text.matches("// SAFETY:").count(), "{}: explain why it is sound", file.display());
    }
}

#[test]
fn stages_do_not_call_each_other() {
    let stages = [
        "ingest",
        "check",
        "split",
        "preprocess",
        "features",
        "train",
        "evaluate",
        "compare",
        "report",
        "synth",
        "export",
        "predict",
        "explain",
        "fetch",
    ];
    for (file, text) in sources("src") {
        let module = file.with_extension("").iter().next().unwrap().to_str().unwrap().to_string();
        for stage in stages.iter().filter(|stage| stages.contains(&module.as_str()) && **stage != module) {
            assert!(!text.contains(&format!("{stage}::run(")), "{} runs {stage}", file.display());
        }
    }
}

/// A file that is neither used nor re-exported, only declared by its `mod` line, is not in its registry (`LAYOUTS`,
/// `CHECKS`, ...).
#[test]
fn every_file_of_a_module_with_a_registry_is_used() {
    let sources = sources("src");
    let graph = Graph::new(&sources);
    let mut used: BTreeSet<PathBuf> = sources.iter().flat_map(|(file, text)| graph.used_by(file, text)).collect();
    for (file, text) in &sources {
        let public = uses(&code(text)).into_iter().filter(|u| u.0);
        let paths = public.filter_map(|(_, (path, _))| graph.absolute(&module_of(file), &path));
        used.extend(paths.map(|path| graph.file(&path).to_path_buf()).filter(|used| used != file));
    }
    for module in ["ingest", "check", "models", "classical", "report", "cmd"] {
        let files = sources.keys().filter(|file| file.parent().unwrap() == Path::new(module));
        for file in files.filter(|file| !file.ends_with("mod.rs") && !file.ends_with("tests.rs")) {
            assert!(used.contains(file), "src/{} is not registered", file.display());
        }
    }
}

#[test]
fn the_architecture_names_every_module() {
    let text = read("ARCHITECTURE.md");
    for module in layers().keys() {
        assert!(text.contains(&format!("`{module}`")) || text.contains(&format!("`{module}/`")), "{module}");
    }
}
