//! Which fold tests which image: groups stay whole, classes are spread evenly.

use crate::seed;
use rand::seq::SliceRandom;
use std::cmp::Reverse;

/// Most groups that [`balance`] moves and exchanges, the largest ones: its time grows with their square.
const BALANCED_GROUPS: usize = 1_000;

/// The fold that tests each image, in the order given. An image has a class (its position in the list of classes) and
/// the name of its group; images of one group are in one fold.
///
/// Groups are shuffled. The larger ones are assigned first, each to the fold with the fewest images of the group's
/// classes so far, and among those to the one with the fewest images. Single images follow class by class, so that
/// without larger groups the counts of each class, and the totals, differ by at most one between folds.
pub fn assign(classes: &[usize], groups: &[String], folds: u32, seed: u64) -> Vec<u32> {
    assert_eq!(classes.len(), groups.len(), "one class and one group per image");
    let class_count = classes.iter().max().map_or(0, |largest| largest + 1);
    let mut members = members(groups);
    members.shuffle(&mut seed::rng(seed, "split", 0, 0, 0));
    members.sort_by_key(|images| (Reverse(images.len()), classes[images[0]]));

    let mut fold_of = vec![0; groups.len()];
    let mut load = vec![vec![0u64; class_count]; folds as usize];
    for images in &members {
        let counts = counts(images, classes, class_count);
        let fullness = |fold: &usize| {
            let of_its_classes: u64 = load[*fold].iter().zip(&counts).map(|(have, add)| have * add).sum();
            (of_its_classes, load[*fold].iter().sum::<u64>())
        };
        let Some(fold) = (0..load.len()).min_by_key(fullness) else { break };
        load[fold].iter_mut().zip(&counts).for_each(|(have, add)| *have += add);
        images.iter().for_each(|image| fold_of[*image] = fold as u32);
    }
    fold_of
}

/// Moves groups to other folds, and exchanges pairs, for as long as this makes classes and totals more even. Worth it
/// for patients, who differ in size and in their classes; [`assign`] is as even as possible for single images. No fold
/// loses its last group.
pub fn balance(classes: &[usize], groups: &[String], folds: u32, fold_of: &mut [u32]) {
    let class_count = classes.iter().max().map_or(0, |largest| largest + 1);
    let mut members = members(groups);
    members.sort_by_key(|images| (Reverse(images.len()), images[0]));
    let mut load = vec![vec![0f64; class_count + 1]; folds as usize];
    let mut groups_in = vec![0; folds as usize];
    // The last column counts all classes together.
    let with_total = |images: &[usize]| {
        let mut counts: Vec<f64> = counts(images, classes, class_count).iter().map(|n| *n as f64).collect();
        counts.push(images.len() as f64);
        counts
    };
    for images in &members {
        let fold = fold_of[images[0]] as usize;
        groups_in[fold] += 1;
        load[fold].iter_mut().zip(with_total(images)).for_each(|(have, add)| *have += add);
    }
    let weights: Vec<f64> = (0..=class_count)
        .map(|c| load.iter().map(|fold| fold[c]).sum::<f64>())
        .map(|all| if all > 0.0 { 1.0 / (all * all) } else { 0.0 })
        .collect();
    members.truncate(BALANCED_GROUPS);
    let sizes: Vec<Vec<f64>> = members.iter().map(|images| with_total(images)).collect();
    let mut place: Vec<usize> = members.iter().map(|images| fold_of[images[0]] as usize).collect();
    // By how much the sum over folds and classes of (share of the class)² changes if `moved(class)` go from a to b.
    let change = |load: &[Vec<f64>], a: usize, b: usize, moved: &dyn Fn(usize) -> f64| -> f64 {
        let of_class = |c: usize| weights[c] * moved(c) * (moved(c) + load[b][c] - load[a][c]);
        (0..=class_count).map(of_class).sum()
    };
    const LEAST_GAIN: f64 = 1e-9;
    const PASSES: usize = 50;
    for _ in 0..PASSES {
        let mut improved = false;
        for i in 0..members.len() {
            for to in 0..folds as usize {
                let from = place[i];
                let moved = |c: usize| sizes[i][c];
                if to != from && groups_in[from] > 1 && change(&load, from, to, &moved) < -LEAST_GAIN {
                    (0..=class_count).for_each(|c| {
                        load[from][c] -= moved(c);
                        load[to][c] += moved(c);
                    });
                    groups_in[from] -= 1;
                    groups_in[to] += 1;
                    place[i] = to;
                    improved = true;
                }
            }
            for j in i + 1..members.len() {
                let (from, to) = (place[i], place[j]);
                let moved = |c: usize| sizes[i][c] - sizes[j][c];
                if to != from && change(&load, from, to, &moved) < -LEAST_GAIN {
                    (0..=class_count).for_each(|c| {
                        load[from][c] -= moved(c);
                        load[to][c] += moved(c);
                    });
                    place.swap(i, j);
                    improved = true;
                }
            }
        }
        if !improved {
            break;
        }
    }
    for (images, fold) in members.iter().zip(place) {
        images.iter().for_each(|image| fold_of[*image] = fold as u32);
    }
}

/// The images of each group, groups by name, images in the order given.
pub(super) fn members(groups: &[String]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by(|&a, &b| groups[a].cmp(&groups[b]).then(a.cmp(&b)));
    order.chunk_by(|&a, &b| groups[a] == groups[b]).map(<[usize]>::to_vec).collect()
}

/// How many of `images` each class has.
pub(super) fn counts(images: &[usize], classes: &[usize], class_count: usize) -> Vec<u64> {
    let mut counts = vec![0; class_count];
    images.iter().for_each(|image| counts[classes[*image]] += 1);
    counts
}
