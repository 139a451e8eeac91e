//! The documents: links lead somewhere, and every command, flag, variable and setting that they name exists.

use crate::common::Workdir;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The Markdown files of a folder, not of those below it.
fn markdown(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    paths.sort();
    paths
}

/// Every document of the project.
fn documents() -> Vec<PathBuf> {
    [".", "docs", "data", "reports", ".github"].iter().flat_map(|folder| markdown(&root().join(folder))).collect()
}

/// The lines of a document outside of fenced code.
fn prose(text: &str) -> String {
    let mut in_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Targets of Markdown links and images.
fn links(text: &str) -> Vec<String> {
    let text = prose(text);
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.map(String::from).collect()
}

/// A heading's anchor, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let text = prose(text);
    text.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_link_in_the_documents_leads_to_a_file_and_a_heading() {
    let mut checked = 0;
    for document in documents() {
        let text = read(&document);
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            checked += 1;
            let (file, heading) = link.split_once('#').map_or((link.as_str(), None), |(f, h)| (f, Some(h)));
            let target = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} leads to no file", document.display());
            if let Some(heading) = heading {
                let found = anchors(&read(&target)).contains(heading);
                assert!(found, "{}: {link} leads to no heading", document.display());
            }
            // The site consists of docs/ alone.
            let is_in_site = document.parent() == Some(&root().join("docs"));
            assert!(!is_in_site || !link.starts_with(".."), "{}: {link} leaves the site", document.display());
        }
    }
    assert!(checked > 40, "{checked} links");
}

#[test]
fn every_page_is_in_the_sites_contents() {
    let docs = root().join("docs");
    let listed: BTreeSet<String> = links(&read(&docs.join("SUMMARY.md"))).into_iter().collect();
    let pages = markdown(&docs).into_iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_string());
    let pages: BTreeSet<String> = pages.filter(|name| name != "SUMMARY.md").collect();
    assert_eq!(listed, pages);
}

/// The commands in a document: lines of code blocks, and inline code, that start with `wbc`.
fn commands(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim().trim_start_matches("$ "));
    let in_blocks = lines.filter(|line| line.starts_with("wbc ")).map(|line| line.split('#').next().unwrap());
    let inline = text.split('`').skip(1).step_by(2).filter(|code| code.starts_with("wbc ") && !code.contains('\n'));
    in_blocks.chain(inline).map(String::from).collect()
}

#[test]
fn every_command_and_flag_in_the_documents_exists() {
    let w = Workdir::new("commands");
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    let (mut checked, mut unknown) = (0, Vec::new());
    for document in documents() {
        for line in commands(&read(&document)) {
            let mut words = line.split_whitespace().skip(1);
            let Some(command) = words.next().filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase())) else {
                continue; // `wbc --version`, `wbc COMMAND`
            };
            checked += 1;
            let ask = || w.wbc(&[command, "--help"]).ok().stdout;
            let help = helps.entry(command.into()).or_insert_with(ask);
            let is_of_flag = |c: char| c == '-' || c.is_ascii_lowercase() || c.is_ascii_digit();
            for flag in words.filter(|word| word.starts_with("--") && word.len() > 2) {
                let flag: String = flag.chars().take_while(|c| is_of_flag(*c)).collect();
                let known = flag == "--help" || help.split(|c| !is_of_flag(c)).any(|known| known == flag);
                if !known {
                    unknown.push(format!("{}: `{line}`: wbc {command} has no {flag}", document.display()));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
    assert!(checked > 80, "{checked} commands");
    let table = read(&root().join("docs/commands.md"));
    let help = w.wbc(&["--help"]).ok().stdout;
    for command in help.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next()) {
        let is_command = command.len() > 1 && command.chars().all(|c| c.is_ascii_lowercase()) && command != "help";
        let is_listed = table.contains(&format!("`wbc {command}`")) || table.contains(&format!("`wbc {command} "));
        assert!(!is_command || is_listed, "docs/commands.md does not list wbc {command}");
    }
}

#[test]
fn the_documents_describe_every_setting_and_variable() {
    let text = read(&root().join("docs/settings.md"));
    let mut keys = BTreeSet::new();
    for (name, _) in wbc::pipeline::BUILT_IN {
        let resolved = wbc::pipeline::Pipeline::load(name).unwrap().to_toml().unwrap();
        let lines = resolved.lines().filter_map(|line| Some(line.split_once(" = ")?.0.to_string()));
        keys.extend(lines.filter(|key| !["name", "doc", "seed"].contains(&key.as_str())));
    }
    assert!(keys.len() > 40, "{keys:?}");
    for key in keys {
        assert!(text.contains(&format!("`{key}`")) || text.contains(&format!("`{key} = ")), "docs/settings.md: {key}");
    }
    let w = Workdir::new("variables");
    let commands = ["ingest", "split", "preprocess", "train", "report", "run"];
    for help in commands.map(|command| w.wbc(&[command, "--help"]).ok().stdout) {
        for variable in help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next()) {
            assert!(text.contains(&format!("`{variable}`")), "docs/settings.md: {variable}");
        }
    }
}

#[test]
fn the_readme_is_short() {
    let lines = read(&root().join("README.md")).lines().count();
    assert!(lines <= 160, "README.md has {lines} lines: move something to docs/");
}
