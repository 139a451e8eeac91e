//! Classes whose images differ from the others as a whole: in size, file format or brightness. Where they are from
//! another laboratory, microscope or program, a network can tell them by that instead of by the cells.

use super::findings::{Check, Findings, Images};
use super::measurements::Measurements;
use super::settings::Settings;
use crate::class::Class;
use crate::rows::{ManifestRow, Severity};
use crate::statistics::epsilon_squared;
use crate::text::listed;
use std::collections::BTreeMap;

pub struct ClassApart;

/// Fewest images of a class that is compared.
const FEWEST: usize = 10;
/// Smallest share of a class's images that have one size or format, and largest of the others' that have it, too.
const MOST: f64 = 0.8;
const HARDLY: f64 = 0.05;
/// Smallest share of the variance of the brightest parts, which are the background, that lies between the classes. In
/// PBC it is 0, and in LISC's cells, whose background is saturated in some classes, 0.4.
const BETWEEN: f64 = 0.6;
/// Smallest difference of two classes' brightest parts, grey levels: in images that are all alike, any is between them.
const VISIBLE: f64 = 5.0;

type Files<'a> = BTreeMap<Class, Vec<(&'a ManifestRow, &'a Measurements)>>;

impl Check for ClassApart {
    fn name(&self) -> &'static str {
        "class_apart"
    }
    fn doc(&self) -> &'static str {
        "a class whose images differ as a whole, which a model may learn instead of the cells"
    }
    fn find(&self, images: &Images, _: &Settings, findings: &mut Findings) {
        let mut files: Files = BTreeMap::new();
        for (row, measured) in images.decoded() {
            row.class.into_iter().for_each(|class| files.entry(class).or_default().push((row, measured)));
        }
        files.retain(|_, files| files.len() >= FEWEST);
        if files.len() < 2 {
            return;
        }
        apart(&files, "size", &|row| format!("{} x {} px", row.width_px, row.height_px), findings);
        apart(&files, "format", &|row| row.format.clone(), findings);
        let levels = files.iter().map(|(class, files)| {
            (*class, files.iter().map(|(_, measured)| [f64::from(measured.grey_p95)]).collect::<Vec<_>>())
        });
        let (classes, levels): (Vec<Class>, Vec<Vec<[f64; 1]>>) = levels.unzip();
        let means: Vec<f64> =
            levels.iter().map(|levels| levels.iter().map(|[level]| level).sum::<f64>() / levels.len() as f64).collect();
        let range = means.iter().copied().fold(f64::MIN, f64::max) - means.iter().copied().fold(f64::MAX, f64::min);
        if let Some(share) = epsilon_squared(&levels).filter(|share| *share >= BETWEEN && range >= VISIBLE) {
            let means = classes.iter().zip(means).map(|(class, mean)| format!("{class} {mean:.0}"));
            let means: Vec<String> = means.collect();
            let message = format!(
                "{:.0} % of the variance of the background's brightness lies between the classes (mean grey levels: \
                 {}): a model can tell them by it, and figures on these images do not hold for others",
                100.0 * share,
                means.join(", ")
            );
            findings.dataset(Severity::Warning, Some(share), message);
        }
    }
}

/// Reports classes most of whose images have one `value` that images of the other classes hardly have.
fn apart(files: &Files, what: &str, value: &dyn Fn(&ManifestRow) -> String, findings: &mut Findings) {
    let share = |of: &[&Class], sought: &str| {
        let images = || files.iter().filter(|(class, _)| of.contains(class)).flat_map(|(_, files)| files);
        images().filter(|(row, _)| value(row) == sought).count() as f64 / images().count().max(1) as f64
    };
    let mut classes: BTreeMap<String, Vec<&Class>> = BTreeMap::new();
    for (class, of_class) in files {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        of_class.iter().for_each(|(row, _)| *counts.entry(value(row)).or_default() += 1);
        let most =
            counts.into_iter().max_by_key(|(_, n)| *n).filter(|(_, n)| *n as f64 >= MOST * of_class.len() as f64);
        most.into_iter().for_each(|(value, _)| classes.entry(value).or_default().push(class));
    }
    // Where all classes have their usual value, as most do, there is one entry.
    // The other side differs in the same way: the one with fewer classes is named.
    let mut named: Vec<&Class> = Vec::new();
    for (value, of) in classes.iter().filter(|(_, of)| 2 * of.len() <= files.len()) {
        if files.keys().all(|class| of.contains(&class) || named.contains(&class)) {
            continue;
        }
        let others: Vec<&Class> = files.keys().filter(|class| !of.contains(class)).collect();
        if share(&others, value) <= HARDLY {
            let message = format!(
                "most images of {} have the {what} {value}, and those of other classes hardly ever: a model can tell \
                 them by it, and figures on these images do not hold for others",
                listed(of.iter().map(|class| class.name()))
            );
            findings.dataset(Severity::Warning, Some(of.len() as f64), message);
            named.extend(of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Classes;

    fn found(
        size: impl Fn(Class) -> u32,
        format: impl Fn(Class) -> &'static str,
        level: impl Fn(Class, u8) -> u8,
    ) -> Vec<String> {
        let classes = Classes::wbc5();
        let (mut rows, mut files) = (Vec::new(), Vec::new());
        for class in classes.iter() {
            for i in 0..12 {
                let path = format!("{class}/{i:02}.png");
                let mut row = ManifestRow { class: Some(class), path, ..Default::default() };
                (row.width_px, row.height_px, row.format) = (size(class), size(class), format(class).into());
                rows.push(row);
                let grey_p95 = level(class, i);
                files.push(Ok(Measurements { grey_p05: 20, grey_p95, grey_range: (0, 255), sharpness: 1.0 }));
            }
        }
        let numbers: Vec<usize> = (0..rows.len()).collect();
        let images =
            Images { classes, rows, first_rows: numbers.clone(), file_of_row: numbers, files, copies: Vec::new() };
        let mut findings = Findings::new("d");
        findings.add(&ClassApart, &images, &Settings::default());
        findings.issues.into_iter().map(|issue| issue.message).collect()
    }

    #[test]
    fn classes_of_another_source_are_told_by_size_format_and_brightness() {
        let alike = |_: Class, i: u8| 230 + i % 5;
        assert_eq!(found(|_| 360, |_| "jpeg", alike), [""; 0]);
        let odd = Class::MONOCYTE;
        let sized = found(|class| if class == odd { 224 } else { 360 }, |_| "jpeg", alike);
        assert!(sized.len() == 1 && sized[0].contains("monocyte have the size 224 x 224 px"), "{sized:?}");
        let formats = found(|_| 360, |class| if class == odd { "bmp" } else { "jpeg" }, alike);
        assert!(formats.len() == 1 && formats[0].contains("monocyte have the format bmp"), "{formats:?}");
        let bright = found(|_| 360, |_| "jpeg", |class, i| if class == odd { 250 } else { 230 } + i % 5);
        assert!(
            bright.len() == 1 && bright[0].contains("background's brightness") && bright[0].contains("monocyte 252"),
            "{bright:?}"
        );
        // Every image has a size of its own, as tight crops have; a difference that nobody sees.
        assert_eq!(found(|_| 360, |_| "jpeg", |class, _| if class == odd { 231 } else { 230 }), [""; 0]);
    }
}
