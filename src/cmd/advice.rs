//! The command that helps after an error: which one writes a missing input, or resumes interrupted work.

use crate::error::{Error, Input};
use crate::ingest;
use crate::join;
use crate::pipeline::{BUILT_IN, Pipeline};
use crate::run::{ModelId, Record, RunDir};
use crate::workspace::Workspace;
use std::path::{Component, Path};

/// The error as the user reads it, with the command that helps where there is one.
pub fn message(error: &Error, ws: &Workspace) -> String {
    match (error, command(error, ws)) {
        (Error::Interrupted, _) => format!("{error}. Resume with: {}", this_command()),
        (Error::Waiting(waiting), _) => {
            let count = waiting.shards;
            format!("{error}. Run: the same command with --shard I/{count} for each of them, not --merge {count}")
        }
        (_, Some(command)) => format!("{error}. Run: {command}"),
        (_, None) => error.to_string(),
    }
}

/// " Run: " and the command that writes the input that is missing or out of date, or nothing.
pub fn sentence(error: &Error, ws: &Workspace) -> String {
    command(error, ws).map_or(String::new(), |command| format!(" Run: {command}"))
}

/// The command that writes the input that is missing or out of date.
fn command(error: &Error, ws: &Workspace) -> Option<String> {
    let (input, path) = match error {
        Error::Missing { path, input, .. } | Error::Stale { path, input, .. } => (*input, path.as_path()),
        _ => return None,
    };
    let (dataset, run) = owner(path, ws);
    let for_dataset = |command: &str| {
        let option = dataset.as_ref().map_or(String::new(), |name| format!(" --dataset {}", quoted(name)));
        Some(format!("wbc {command}{option}"))
    };
    let tables = [Input::Manifest, Input::IngestIssues, Input::Checks, Input::Issues, Input::CopyFeatures];
    if let Some(command) = dataset.as_deref().filter(|_| tables.contains(&input)).and_then(|name| joining(ws, name)) {
        return Some(command);
    }
    match input {
        Input::Images | Input::ImageList | Input::Pipeline => None,
        Input::Manifest | Input::IngestIssues => {
            // As it was read before.
            let options = dataset.as_ref().map_or(String::new(), |name| ingest_options(ws, name));
            for_dataset("ingest").map(|command| command + &options)
        }
        Input::Checks | Input::Issues | Input::CopyFeatures => for_dataset("check"),
        Input::Splits => for_dataset("split --stratified"),
        Input::Tensors => for_dataset("preprocess"),
        Input::Features => for_dataset("features"),
        Input::Run
        | Input::Checkpoint
        | Input::Epochs
        | Input::Predictions
        | Input::Metrics
        | Input::Intervals
        | Input::Validation => {
            let record = run.as_ref().and_then(|name| Some((name, Record::read(ws, name).ok()?)));
            let Some((name, record)) = record else { return Some(training(run.as_deref().unwrap_or_default())) };
            if input == Input::Validation {
                return Some(format!("wbc validate {} --dataset NAME", quoted(name)));
            }
            Some(resume(ws, name, &record) + &model_option(path))
        }
    }
}

/// The command that trains a run which is not there: by its name, if it is a usual one.
fn training(run: &str) -> String {
    let usual = BUILT_IN.iter().find_map(|(name, _)| {
        let pipeline = Pipeline::load(name).ok()?;
        let dataset = run.strip_suffix(&format!("-{}-{name}", pipeline.train.model()))?;
        Some((dataset.to_string(), *name))
    });
    match usual {
        Some((dataset, pipeline)) => format!("wbc train --dataset {} --pipeline {pipeline}", quoted(&dataset)),
        None => "wbc train".into(),
    }
}

/// The command that makes a joint data set again; none for any other.
fn joining(ws: &Workspace, dataset: &str) -> Option<String> {
    let (members, whole) = (join::members(ws, dataset), join::whole_members(ws, dataset));
    match members.iter().find(|member| !whole.contains(member)) {
        _ if members.is_empty() => None,
        None => Some(format!("wbc train --datasets {}", quoted(&members.join(",")))),
        Some(part) => Some(format!("wbc adapt RUN --dataset {} --label N", quoted(part))),
    }
}

/// The options with which a data set was ingested, each with a space before it: for the command that ingests it again.
fn ingest_options(ws: &Workspace, dataset: &str) -> String {
    let Some(settings) = ingest::settings_of(ws, dataset) else { return String::new() };
    let mut options = String::new();
    let mut add = |option: &str, value: Option<String>| {
        if let Some(value) = value {
            let quote = if value.contains(|c: char| !(c.is_alphanumeric() || "-_.,/".contains(c))) { "'" } else { "" };
            options += &format!(" --{option} {quote}{value}{quote}");
        }
    };
    let default = ingest::Settings::default();
    let in_pipeline = (&settings.path, &settings.mask, &settings.columns, &settings.classes.map)
        != (&default.path, &default.mask, &default.columns, &default.classes.map);
    // A comma on the command line separates names.
    let (names, has_comma) = match &settings.classes.set {
        Some(ingest::Set::List(names)) => (Some(names.join(",")), names.iter().any(|name| name.contains(','))),
        set => (set.as_ref().map(ToString::to_string), false),
    };
    let in_pipeline = in_pipeline || has_comma;
    add("layout", settings.layout);
    add("classes", names.filter(|_| !has_comma));
    add("expert", (settings.expert != default.expert).then(|| settings.expert.to_string()));
    add("cut", (settings.cut != default.cut).then(|| settings.cut.name().into()));
    add("pipeline", in_pipeline.then(|| "FILE (the one it was ingested with)".into()));
    options
}

/// The command that resumes a run.
fn resume(ws: &Workspace, run: &str, record: &Record) -> String {
    let mut command = format!("wbc train --dataset {} --run {}", quoted(&record.dataset), quoted(run));
    let settings = RunDir::new(ws, run).pipeline();
    if settings.is_file() {
        command += &format!(" --pipeline {}", quoted(&settings.display().to_string()));
    }
    if let Some(init) = &record.init {
        command += &format!(" --init {}", quoted(&init.source().to_string()));
    }
    command
}

/// The option that trains the model whose folder `path` lies in.
fn model_option(path: &Path) -> String {
    let name = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    match ModelId::from_folder_name(&name) {
        Some(ModelId::Fold(fold)) => format!(" --fold {fold}"),
        Some(ModelId::All) => " --all".into(),
        None => String::new(),
    }
}

/// The data set or the run that `path` belongs to, by its folder in the workspace.
fn owner(path: &Path, ws: &Workspace) -> (Option<String>, Option<String>) {
    let name = |part: Option<Component>| part.map(|part| part.as_os_str().to_string_lossy().into_owned());
    if let Ok(below) = path.strip_prefix(ws.runs()) {
        return (None, name(below.components().next()));
    }
    let below = path.strip_prefix(ws.raw()).or_else(|_| path.strip_prefix(&ws.root));
    (below.ok().and_then(|below| name(below.components().next())), None)
}

/// The command line of this process.
fn this_command() -> String {
    std::env::args().map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
}

/// A word as a shell reads it, in quotes where it needs them.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_names_the_data_set_that_the_path_belongs_to() {
        let ws = Workspace::new("data");
        let advice = |error: Error| command(&error, &ws);
        let stale = Error::stale(Input::Manifest, "data/raw/pbc/a.jpg", "the image has changed");
        assert_eq!(advice(stale).unwrap(), "wbc ingest --dataset pbc");
        let spaces = Error::missing(Input::Splits, "data/my cells/splits.parquet");
        assert_eq!(advice(spaces).unwrap(), "wbc split --stratified --dataset 'my cells'");
        let missing = Error::missing(Input::Tensors, "data/cuk/tensors-128");
        assert_eq!(advice(missing).unwrap(), "wbc preprocess --dataset cuk");
        assert_eq!(advice(Error::missing(Input::Manifest, "data")).unwrap(), "wbc ingest");
        assert_eq!(advice(Error::missing(Input::Run, "data/runs/a/run.json")).unwrap(), "wbc train");
        let usual = advice(Error::missing(Input::Run, "data/runs/my-cells-svm-svm/run.json")).unwrap();
        assert_eq!(usual, "wbc train --dataset my-cells --pipeline svm");
        assert_eq!(advice(Error::missing(Input::Images, "data/raw")), None);
        assert_eq!(advice(Error::setting("seed", "a number", "x")), None);
    }
}
