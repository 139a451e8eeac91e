//! Join: several data sets as one, to train on all of them. Writes the tables of ingest and check of the joint data set
//! from those of its members, and decodes nothing: only copies of one member's images in another are looked for.
//!
//! The joint data set is named after its members, such as `jtsc+pbc`. Its cells keep their `image_id` and `dataset`;
//! their paths start with the member's name, because its images are where the members' are.

use crate::check;
use crate::class::{Class, Classes};
use crate::context::Context;
use crate::copies::{self, Features, Groups, store};
use crate::dataset::{self, Dataset};
use crate::error::{Error, Input, Result};
use crate::ingest;
use crate::rows::{CheckRow, CopyRow, IssueRow, ManifestRow};
use crate::schema::{CHECKS, COPIES, ISSUES, MANIFEST};
use crate::table::{self, Provenance};
use crate::text::{self, listed};
use crate::workspace::{JOINT, Workspace};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What was joined.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Name of the joint data set.
    pub dataset: String,
    /// Whether it was there already, made from the same tables.
    pub up_to_date: bool,
    /// Usable images of each member, by class.
    pub members: Vec<(String, BTreeMap<Class, u64>)>,
    /// Classes that not every member has on its list, with their images, which are left out.
    pub left_out: Vec<(Class, u64)>,
    /// Classes of the joint data set of which a member has no usable image: member and classes.
    pub lacking: Vec<(String, Vec<Class>)>,
    /// Images that show the same as an image of another member: each such pair is kept in one fold.
    pub copies: u64,
    /// How many of these pairs have different classes.
    pub other_class: u64,
    /// Names of subjects, or of slides, that several members have: taken for the same, and kept in one fold.
    pub people: Vec<String>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} data sets as one", self.dataset, self.members.len())?;
        if self.up_to_date {
            write!(f, " (up to date)")?;
        }
        for (name, counts) in &self.members {
            let counts = text::in_order(counts.iter().map(|(class, n)| (class.name(), *n)));
            write!(f, "\n{name}: {counts}")?;
        }
        for (class, n) in &self.left_out {
            let images = text::of(*n, "image");
            write!(f, "\nleft out: {images} of {class}, a class that not every one of the data sets has on its list")?;
        }
        for (name, classes) in &self.lacking {
            write!(f, "\n{name} has no image of {}", listed(classes.iter().map(|class| class.name())))?;
        }
        if self.copies > 0 {
            let pairs = text::of(self.copies, "pair");
            write!(f, "\n{pairs} of images of two data sets show the same: each is kept in one fold")?;
        }
        if self.other_class > 0 {
            write!(f, "\n{} of these pairs have different classes in the two data sets", self.other_class)?;
        }
        if !self.people.is_empty() {
            let names = listed(self.people.iter().map(String::as_str));
            write!(
                f,
                "\npatients or slides of one name in several data sets are kept in one fold, as if they were the same: \
                 {names}"
            )?;
        }
        Ok(())
    }
}

impl Summary {
    /// Whether something was left out or needs attention.
    pub fn has_findings(&self) -> bool {
        !(self.left_out.is_empty() && self.people.is_empty()) || self.copies > 0
    }
}

/// The name of the joint data set of these members.
///
/// # Errors
/// [`Error::Setting`] for fewer than two different names.
pub fn name(members: &[String]) -> Result<String> {
    name_of_part(members, None)
}

/// [`name()`] with some cells of one of the members.
///
/// # Errors
/// As [`name()`].
pub fn name_of_part(members: &[String], part: Option<&Part>) -> Result<String> {
    let names: BTreeSet<&str> = members.iter().map(String::as_str).collect();
    if names.len() < 2 || names.len() < members.len() {
        return Err(Error::setting("datasets", "at least two different data sets", members.join(",")));
    }
    if let Some(joint) = names.iter().find(|name| name.contains(JOINT)) {
        return Err(Error::setting("datasets", format!("names without {JOINT:?}: each data set by itself"), joint));
    }
    let shown = |name: &str| match part.filter(|part| part.dataset == name) {
        Some(part) => part.name.clone(),
        None => name.to_string(),
    };
    Ok(names.into_iter().map(shown).collect::<Vec<_>>().join(&JOINT.to_string()))
}

/// The members of a joint data set, by its manifest; none of a data set that was ingested.
pub fn members(ws: &Workspace, dataset: &str) -> Vec<String> {
    let made = table::provenance(&ws.manifest(dataset), &MANIFEST).ok();
    let made = made.filter(|made| made.stage == STAGE);
    made.and_then(|made| serde_json::from_value(made.settings["datasets"].clone()).ok()).unwrap_or_default()
}

/// The members that a joint data set has all cells of.
pub fn whole_members(ws: &Workspace, dataset: &str) -> Vec<String> {
    let made = table::provenance(&ws.manifest(dataset), &MANIFEST).ok();
    let part = made.and_then(|made| made.settings["part"]["dataset"].as_str().map(String::from));
    members(ws, dataset).into_iter().filter(|member| Some(member) != part.as_ref()).collect()
}

/// Requires that a joint data set was made from the tables that its members have now; any other one is current.
///
/// # Errors
/// [`Error::Stale`] where a member has changed since, [`Error::Missing`] where it is gone.
pub fn require_current(ws: &Workspace, dataset: &str) -> Result<()> {
    let path = ws.manifest(dataset);
    for member in members(ws, dataset) {
        let made = table::provenance(&path, &MANIFEST)?;
        let now = table::file_hash(&ws.manifest(&member))?;
        if made.inputs.get(&input_of(Input::Manifest, &member)) != Some(&now) {
            return Err(Error::stale(Input::Manifest, path, format!("{member} has changed since it was joined")));
        }
    }
    Ok(())
}

/// The key of a member's table in the inputs of the joint one.
fn input_of(input: Input, member: &str) -> String {
    format!("{} of {member}", input.name())
}

const STAGE: &str = "join";
/// The reason in [`CheckRow::left_out`] for a cell that is not in the [`Part`] of its data set.
const NOT_CHOSEN: &str = "not_chosen";

/// A member, checked.
struct Member {
    name: String,
    data: Dataset,
    issues: Vec<IssueRow>,
    copies: Vec<CopyRow>,
    features: Vec<(String, Features)>,
}

impl Member {
    fn read(ws: &Workspace, name: &str) -> Result<Self> {
        let data = Dataset::read(ws, name)?;
        let features = store::of_dataset(ws, name)?;
        let Some(features) = features.filter(|_| data.checked) else {
            return Err(Error::missing(Input::Checks, ws.checks(name)));
        };
        Ok(Self {
            name: name.into(),
            issues: dataset::issues(ws, name)?,
            copies: table::read_rows(&ws.copies(name), &COPIES)?.0,
            data,
            features,
        })
    }

    /// A path of the member as one of the joint data set.
    fn path(&self, path: &str) -> String {
        if path.is_empty() || std::path::Path::new(path).is_absolute() {
            path.into()
        } else {
            format!("{}/{path}", self.name)
        }
    }
}

/// The cells of a data set that a joint one has, where it has not all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// The data set.
    pub dataset: String,
    /// What stands for it in the name of the joint data set, such as `mine-100`.
    pub name: String,
    /// Its cells, by `image_id`.
    pub cells: BTreeSet<String>,
}

/// Joins data sets that have been checked. `correlation` is as in [`check::Settings::copy_correlation`].
///
/// # Errors
/// [`Error::Setting`] for fewer than two different data sets or a folder of the joint name under `raw/`;
/// [`Error::Missing`] where a member has not been ingested and checked; [`Error::Data`] where the members have fewer
/// than two classes in common; [`Error::Interrupted`].
pub fn run(ws: &Workspace, members: &[String], correlation: f32, ctx: &Context) -> Result<Summary> {
    run_part(ws, members, None, correlation, ctx)
}

/// [`run()`] with some cells of one of the members. Its other cells are in the joint data set without being used.
///
/// # Errors
/// As [`run()`].
pub fn run_part(
    ws: &Workspace,
    members: &[String],
    part: Option<&Part>,
    correlation: f32,
    ctx: &Context,
) -> Result<Summary> {
    let name = name_of_part(members, part)?;
    if ws.raw().join(&name).exists() {
        let expected =
            format!("no folder of this name in {}: it stands for the data sets together", ws.raw().display());
        return Err(Error::setting("datasets", expected, &name));
    }
    let names: BTreeSet<&String> = members.iter().collect();
    let members: Vec<Member> = names.iter().map(|name| Member::read(ws, name)).collect::<Result<_>>()?;
    let classes = common(&name, &members)?;
    let mut inputs = BTreeMap::new();
    for member in &members {
        for input in [Input::Manifest, Input::Checks] {
            inputs.insert(input_of(input, &member.name), member.data.inputs[input.name()].clone());
        }
    }
    let mut settings = serde_json::json!({ "classes": classes, "datasets": names, "copy_correlation": correlation });
    if let Some(part) = part {
        settings["part"] = serde_json::to_value(part).expect("names are plain JSON");
    }
    let provenance = Provenance { stage: STAGE.into(), settings, seed: None, inputs };
    let mut of_joint = provenance.clone();
    let up_to_date = table::is_current(&ws.manifest(&name), &MANIFEST, &provenance) && {
        of_joint.inputs = [(Input::Manifest.name().into(), table::file_hash(&ws.manifest(&name))?)].into();
        table::is_current(&ws.checks(&name), &CHECKS, &of_joint)
    };
    if up_to_date {
        let joint = Dataset::read(ws, &name)?;
        let across = table::read_rows::<CopyRow>(&ws.copies(&name), &COPIES)?.0;
        return Ok(summary(&name, &members, &joint, &across, true));
    }

    // Two members at a time, so that copies are looked for between members alone.
    let mut across = Vec::new();
    for (i, one) in members.iter().enumerate() {
        for other in &members[i + 1..] {
            let [known, new] = [one, other].map(|m| m.features.iter().map(|(_, f)| Some(f)).collect::<Vec<_>>());
            let row_of = |member: &Member| -> HashMap<String, usize> {
                member.data.cells.iter().enumerate().map(|(i, row)| (row.image_id.clone(), i)).collect()
            };
            let (of_one, of_other) = (row_of(one), row_of(other));
            let mut pairs = copies::find_between(&known, &new, correlation, ctx)?;
            for pair in &mut pairs {
                (pair.a, pair.b) = (of_one[&one.features[pair.a].0], of_other[&other.features[pair.b].0]);
            }
            across.extend(check::copy_rows(&pairs, &one.data.cells, &other.data.cells));
        }
    }
    let mut joint = Dataset {
        classes: classes.clone(),
        cells: Vec::new(),
        checks: Vec::new(),
        checked: true,
        inputs: BTreeMap::new(),
    };
    let (mut issues, mut all_copies, mut features) = (Vec::new(), across, Vec::new());
    for member in &members {
        joint.cells.extend(member.data.cells.iter().cloned().map(|mut row| {
            row.path = member.path(&row.path);
            row.mask_path = row.mask_path.map(|path| member.path(&path));
            row.class = row.class.filter(|class| classes.index(*class).is_some());
            row
        }));
        joint.checks.extend(member.data.checks.iter().cloned());
        issues.extend(member.issues.iter().cloned().map(|mut row| {
            row.path = member.path(&row.path);
            row
        }));
        all_copies.extend(member.copies.iter().cloned());
        features.extend(member.features.iter().map(|(id, f)| (id.as_str(), Some(f))));
    }
    for (cell, check) in joint.cells.iter().zip(&mut joint.checks) {
        let is_chosen = part.is_none_or(|part| part.dataset != cell.dataset || part.cells.contains(&cell.image_id));
        if check.left_out.is_none() {
            check.left_out = match cell.class {
                None => Some(dataset::NO_CLASS.into()),
                Some(_) if !is_chosen => Some(NOT_CHOSEN.into()),
                Some(_) => None,
            };
        }
    }
    join_groups(&mut joint.checks, &all_copies);

    for path in [ws.checks(&name), ws.splits(&name)] {
        // They describe the old manifest.
        if table::exists(&path)? {
            std::fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
        }
    }
    table::write_rows(&ws.manifest(&name), &MANIFEST, &provenance, &joint.cells)?;
    of_joint.inputs = [(Input::Manifest.name().into(), table::file_hash(&ws.manifest(&name))?)].into();
    let (ids, features): (Vec<&str>, Vec<Option<&Features>>) = features.into_iter().unzip();
    store::write(&ws.copy_features(&name), &of_joint, &ids, &features.as_slice())?;
    table::write_rows(&ws.issues(&name), &ISSUES, &of_joint, &issues)?;
    table::write_rows(&ws.copies(&name), &COPIES, &of_joint, &all_copies)?;
    table::write_rows(&ws.checks(&name), &CHECKS, &of_joint, &joint.checks)?;
    Ok(summary(&name, &members, &joint, &all_copies, false))
}

/// The classes that every member has on its list, in the order of the first.
fn common(name: &str, members: &[Member]) -> Result<Classes> {
    let lists: Vec<&Classes> = members.iter().map(|member| &member.data.classes).collect();
    let all: Vec<crate::class::ClassInfo> = lists[0].clone().into();
    let common = Classes::new(all.into_iter().filter(|info| lists.iter().all(|list| list.index(info.name).is_some())));
    if common.len() >= Classes::MIN {
        return Ok(common);
    }
    let got: Vec<String> = members.iter().map(|member| format!("{}: {}", member.name, member.data.classes)).collect();
    let error = Error::data(name, "at least two classes that all of the data sets have", got.join("; "));
    Err(error.with_hint("Ingest them with the same classes: wbc ingest --classes wbc5"))
}

/// Gives the groups that a pair of copies joins one name: the smallest of their names.
fn join_groups(checks: &mut [CheckRow], copies: &[CopyRow]) {
    let row_of: HashMap<String, usize> =
        checks.iter().enumerate().map(|(i, check)| (check.image_id.clone(), i)).collect();
    let mut groups = Groups::new(checks.len());
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (i, check) in checks.iter().enumerate() {
        groups.join(*first.entry(&check.group_id).or_insert(i), i);
    }
    for copy in copies {
        if let (Some(a), Some(b)) = (row_of.get(&copy.image_id), row_of.get(&copy.copy_id)) {
            groups.join(*a, *b);
        }
    }
    // Rows are sorted by image_id, so that the first of a group has the smallest.
    let names: Vec<String> = (0..checks.len()).map(|i| checks[groups.first(i)].group_id.clone()).collect();
    checks.iter_mut().zip(names).for_each(|(check, name)| check.group_id = name);
}

fn summary(name: &str, members: &[Member], joint: &Dataset, copies: &[CopyRow], up_to_date: bool) -> Summary {
    let usable = |(cell, check): (&'_ ManifestRow, &CheckRow)| -> Option<Class> {
        cell.class.filter(|_| check.left_out.is_none())
    };
    let mut counts: BTreeMap<&str, BTreeMap<Class, u64>> = BTreeMap::new();
    for (cell, check) in joint.cells.iter().zip(&joint.checks) {
        if let Some(class) = usable((cell, check)) {
            *counts.entry(&cell.dataset).or_default().entry(class).or_default() += 1;
        }
    }
    let mut left_out: BTreeMap<Class, u64> = BTreeMap::new();
    for member in members {
        let cells = member.data.cells.iter().zip(&member.data.checks).filter_map(usable);
        cells.filter(|class| joint.classes.index(*class).is_none()).for_each(|class| {
            *left_out.entry(class).or_default() += 1;
        });
    }
    let lacks = |member: &str| -> Vec<Class> {
        let has = |class: &Class| counts.get(member).is_some_and(|counts| counts.contains_key(class));
        joint.classes.iter().filter(|class| !has(class)).collect()
    };
    let lacking = members.iter().map(|member| (member.name.clone(), lacks(&member.name)));
    let class_of: HashMap<&str, Option<Class>> =
        joint.cells.iter().map(|cell| (cell.image_id.as_str(), cell.class)).collect();
    let across = |copy: &&CopyRow| dataset::of_image(&copy.image_id) != dataset::of_image(&copy.copy_id);
    let differs = |copy: &&CopyRow| {
        let classes = [&copy.image_id, &copy.copy_id].map(|id| class_of.get(id.as_str()).copied().flatten());
        matches!(classes, [Some(a), Some(b)] if a != b)
    };
    // Names that differ in letter case, separators or leading zeros only may be of one person.
    let mut people: BTreeMap<String, (BTreeSet<&str>, &str)> = BTreeMap::new();
    for cell in &joint.cells {
        for person in [&cell.subject_id, &cell.slide_id].into_iter().flatten() {
            people.entry(ingest::plain_name(person)).or_insert((BTreeSet::new(), person)).0.insert(&cell.dataset);
        }
    }
    let people = people.into_values().filter(|(datasets, _)| datasets.len() > 1);
    Summary {
        dataset: name.into(),
        up_to_date,
        lacking: lacking.filter(|(_, classes)| !classes.is_empty()).collect(),
        left_out: left_out.into_iter().collect(),
        copies: copies.iter().filter(across).count() as u64,
        other_class: copies.iter().filter(across).filter(differs).count() as u64,
        people: people.map(|(_, name)| name.to_string()).collect(),
        members: members
            .iter()
            .map(|member| (member.name.clone(), counts.get(member.name.as_str()).cloned().unwrap_or_default()))
            .collect(),
    }
}
/// Whether the files of a data set, or of the members of a joint one, have changed since they were ingested.
///
/// # Errors
/// As [`ingest::has_changed`].
pub fn has_changed(ws: &Workspace, dataset: &str, ctx: &Context) -> Result<bool> {
    let members = members(ws, dataset);
    if members.is_empty() {
        return ingest::has_changed(ws, dataset, ctx);
    }
    match require_current(ws, dataset) {
        Err(Error::Stale { .. }) => return Ok(true),
        current => current?,
    }
    for member in members {
        if ingest::has_changed(ws, &member, ctx)? {
            return Ok(true);
        }
    }
    Ok(false)
}
