//! Rules for the project as a whole: registries, stages, and that the documents name what exists.

use crate::common::Workdir;
use crate::sources::{layers, sources};
use std::collections::BTreeSet;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
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

#[test]
fn every_file_of_a_module_with_a_registry_is_registered() {
    // Files that the others of their module share.
    let helpers = [
        "mod",
        "look",
        "sheet",
        "paper",
        "notes",
        "runs",
        "terminal",
        "advice",
        "globals",
        "contact_sheet",
        "entry",
        "scale",
        "composed",
        "grad_cam",
        "onnx",
        "pytorch",
    ];
    for (module, registry) in [
        ("ingest", "LAYOUTS"),
        ("check", "CHECKS"),
        ("models", "MODELS"),
        ("classical", "CLASSIFIERS"),
        ("report", "TABLES"),
        ("cmd", "Command"),
    ] {
        let text = read(format!("src/{module}/mod.rs"));
        let at = text.find(&format!("static {registry}")).or(text.find(&format!("const {registry}")));
        let at = at.or_else(|| text.find(&format!("enum {registry} {{"))).unwrap();
        let list = &text[at..at + text[at..].find("\n}").unwrap().min(text[at..].find("];").unwrap_or(usize::MAX))];
        for path in sources("src").keys().filter(|path| path.parent().unwrap() == Path::new(module)) {
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(
                list.contains(&format!("{name}::")) || helpers.contains(&name),
                "src/{module}/{name}.rs is not in {registry}"
            );
        }
    }
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
fn the_architecture_names_every_module() {
    let text = read("ARCHITECTURE.md");
    for module in layers().keys() {
        assert!(text.contains(&format!("`{module}`")) || text.contains(&format!("`{module}/`")), "{module}");
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
fn every_schemas_columns_stand_in_written_files() {
    // Writing goes by the schema: a struct that does not fit fails. This holds the names that scripts rely on.
    let columns = |name: &str| -> Vec<String> {
        let schema = wbc::schema::all().into_iter().find(|s| s.name == name).unwrap();
        schema.columns.iter().map(|c| c.name.clone()).collect()
    };
    for name in ["image_id", "dataset", "path", "class", "subtype", "width_px", "height_px", "content_hash"] {
        assert!(columns("manifest").contains(&name.to_string()), "{name}");
    }
    for name in ["image_id", "group_id", "left_out", "perceptual_hash"] {
        assert!(columns("checks").contains(&name.to_string()), "{name}");
    }
    assert_eq!(columns("splits"), ["image_id", "fold", "role"]);
    assert_eq!(
        columns("predictions"),
        ["image_id", "fold", "truth", "p_neutrophil", "p_eosinophil", "p_basophil", "p_lymphocyte", "p_monocyte"]
    );
}
