//! What holds of the source as a whole: layers, registries, and that the documents tell the truth.

use crate::common::Workdir;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn sources() -> Vec<PathBuf> {
    walkdir::WalkDir::new(root().join("src"))
        .sort_by_file_name()
        .into_iter()
        .map(|e| e.unwrap().into_path())
        .filter(|p| p.extension().is_some_and(|e| e == "rs"))
        .collect()
}

/// The module right below `src/` that a file belongs to.
fn module(path: &Path) -> String {
    let below = path.strip_prefix(root().join("src")).unwrap();
    below.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_string()
}

/// Layer by module, from the comments in `lib.rs`.
fn layers() -> BTreeMap<String, u32> {
    let mut layers = BTreeMap::new();
    let mut layer = None;
    for line in read("src/lib.rs").lines() {
        if let Some(number) = line.strip_prefix("// ").and_then(|l| l.split(':').next()).and_then(|n| n.parse().ok()) {
            layer = Some(number);
        }
        if let Some(name) = line.strip_prefix("pub mod ") {
            layers.insert(name.trim_end_matches(';').to_string(), layer.expect("a module stands below its layer"));
        }
    }
    layers
}

#[test]
fn no_module_uses_one_below_its_layer() {
    let layers = layers();
    assert!(layers.len() > 20);
    let mut edges = 0;
    for path in sources() {
        let of = module(&path);
        let Some(layer) = layers.get(&of) else { continue }; // lib.rs and main.rs
        let text = std::fs::read_to_string(&path).unwrap();
        let mut used = BTreeSet::new();
        for (at, _) in text.match_indices("crate::") {
            let rest = &text[at + 7..];
            let group = rest.strip_prefix('{').map(|g| &g[..g.find('}').unwrap()]);
            for name in group.map_or(vec![rest], |g| g.split(',').collect()) {
                let name: String = name.trim().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                used.insert(name);
            }
        }
        for name in used.into_iter().filter(|n| *n != of) {
            if let Some(other) = layers.get(&name) {
                edges += 1;
                assert!(other <= layer, "{}: layer {layer} uses `{name}` of layer {other}", path.display());
            }
        }
        let learns = ["nn", "models", "train"].contains(&of.as_str());
        assert!(learns || !text.contains("dfdx::"), "{}: dfdx is for nn, models and train", path.display());
        let allowed = ["src/memory.rs", "src/nn/kernel/mod.rs"].iter().any(|p| path.ends_with(p));
        let blocks = text.matches("unsafe {").count();
        assert!(blocks <= usize::from(allowed), "{}: unsafe code has one place a file, and few files", path.display());
        assert_eq!(blocks, text.matches("// SAFETY:").count(), "{}: say why it is sound", path.display());
    }
    assert!(edges > 50, "the scan sees the edges");
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
    for path in sources().iter().filter(|p| stages.contains(&module(p).as_str())) {
        let text = std::fs::read_to_string(path).unwrap();
        for stage in stages.iter().filter(|s| **s != module(path)) {
            assert!(!text.contains(&format!("{stage}::run(")), "{} runs {stage}", path.display());
        }
    }
}

#[test]
fn every_file_of_a_room_is_registered() {
    // Files that serve the others of their room.
    let helpers = [
        "mod",
        "look",
        "sheet",
        "paper",
        "notes",
        "runs",
        "terminal",
        "contact_sheet",
        "entry",
        "scale",
        "composed",
        "grad_cam",
        "onnx",
        "pytorch",
    ];
    for (room, registry) in [
        ("ingest", "LAYOUTS"),
        ("check", "CHECKS"),
        ("models", "MODELS"),
        ("classical", "CLASSIFIERS"),
        ("report", "TABLES"),
        ("cmd", "commands!"),
    ] {
        let text = read(format!("src/{room}/mod.rs"));
        let at = text.find(&format!("static {registry}")).or(text.find(&format!("const {registry}")));
        let at = at.or_else(|| text.rfind(&format!("{registry} {{"))).unwrap();
        let list = &text[at..at + text[at..].find("\n}").unwrap().min(text[at..].find("];").unwrap_or(usize::MAX))];
        for path in sources().iter().filter(|p| p.parent().unwrap() == root().join("src").join(room)) {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let listed = list.contains(&format!("{name}::")) || list.contains(&format!("= {name},"));
            assert!(listed || helpers.contains(&name), "src/{room}/{name}.rs is not in {registry}");
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
