//! Rules for the project as a whole: unique names, valid pipelines, documents that name existing commands.

use crate::common::Workdir;
use std::collections::BTreeSet;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn names_are_unique() {
    fn unique(what: &str, names: Vec<String>) {
        let set: BTreeSet<&String> = names.iter().collect();
        assert_eq!(set.len(), names.len(), "{what}: {names:?}");
    }
    unique("layouts", wbc::ingest::LAYOUTS.iter().map(|l| l.name().into()).collect());
    unique("checks", wbc::check::CHECKS.iter().map(|c| c.name().into()).collect());
    let models = wbc::models::MODELS.iter().map(|m| m.name);
    unique("models", models.chain(wbc::classical::CLASSIFIERS.iter().map(|c| c.name)).map(Into::into).collect());
    unique("tables", wbc::report::TABLES.iter().map(|t| t.number().to_string()).collect());
    unique("schemas", wbc::schema::all().iter().map(|s| s.name.clone()).collect());
}

#[test]
fn every_pipeline_file_is_built_in_and_valid() {
    for entry in std::fs::read_dir(root().join("pipelines")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        let pipeline = wbc::pipeline::Pipeline::load(&name).unwrap();
        assert_eq!(pipeline.name, name, "{}", path.display());
        pipeline.validate().unwrap();
        assert!(wbc::pipeline::BUILT_IN.iter().any(|(built_in, _)| *built_in == name));
    }
}

#[test]
fn the_readmes_commands_exist() {
    let w = Workdir::new("readme");
    let help = w.wbc(&["--help"]).ok().stdout;
    let mut seen = BTreeSet::new();
    for text in
        ["README.md", "CONTRIBUTING.md", "data/README.md", "docs/README.md", "reports/README.md", "CHANGELOG.md"]
            .map(read)
    {
        let lines = text.match_indices("wbc ").filter(|(at, _)| {
            text[..*at].ends_with('`') || text[..*at].ends_with("    ") || text[..*at].ends_with("-- ")
        });
        for (at, _) in lines {
            let command: String = text[at + 4..].chars().take_while(|c| c.is_ascii_lowercase()).collect();
            seen.insert(command);
        }
    }
    seen.remove("");
    assert!(seen.len() >= 6, "{seen:?}");
    for command in seen {
        assert!(help.contains(&format!("\n  {command} ")), "wbc {command} is not in the help");
        let own = w.wbc(&[&command, "--help"]).ok().stdout;
        assert!(own.contains("Usage:"), "{own}");
    }
}

#[test]
fn columns_that_scripts_rely_on_exist() {
    let columns = |name: &str| -> Vec<String> {
        let schema = wbc::schema::all().into_iter().find(|s| s.name == name).unwrap();
        schema.columns.iter().map(|c| c.name.clone()).collect()
    };
    for name in ["image_id", "dataset", "path", "class", "subtype", "width_px", "height_px", "content_hash"] {
        assert!(columns("manifest").contains(&name.to_string()), "{name}");
    }
    for name in ["image_id", "group_id", "left_out", "sharpness"] {
        assert!(columns("checks").contains(&name.to_string()), "{name}");
    }
    assert_eq!(columns("splits"), ["image_id", "fold", "role", "group_id"]);
    assert_eq!(columns("predictions"), ["image_id", "fold", "truth", "p_*"]);
}
