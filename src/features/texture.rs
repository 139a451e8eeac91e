//! Texture of the nucleus or the cytoplasm: grey-level co-occurrence and local binary patterns of the green channel,
//! which stains absorb most.

use super::values::Values;
use crate::decode::Rgb;
use crate::segment::Mask;

/// Number of grey levels of the co-occurrence matrix.
const LEVELS: usize = 32;
/// Width of a level: 256 / [`LEVELS`].
const STEP: u8 = 8;
/// Steps (right, down) of one pixel in the four directions of Haralick et al.: 0, 45, 90 and 135 degrees.
const DIRECTIONS: [(isize, isize); 4] = [(1, 0), (1, -1), (0, -1), (-1, -1)];
/// Haralick's features 1 to 13. The 14th, the maximal correlation coefficient, is left out, because it needs
/// eigenvalues of matrices that may have none.
const HARALICK: [&str; 13] = [
    "energy",
    "contrast",
    "correlation",
    "variance",
    "homogeneity",
    "sum_average",
    "sum_variance",
    "sum_entropy",
    "entropy",
    "difference_variance",
    "difference_entropy",
    "information_1",
    "information_2",
];
/// Number of neighbours of the local binary patterns.
const NEIGHBOURS: usize = 8;

/// Measures the pixels of `part`.
pub fn measure(image: &Rgb, part: &Mask, name: &str, values: &mut Values) {
    let green: Vec<u8> = image.pixels.as_chunks::<3>().0.iter().map(|p| p[1]).collect();
    let by_direction = DIRECTIONS.map(|direction| haralick(&co_occurrence(&green, part, direction)));
    for (k, feature) in HARALICK.iter().enumerate() {
        // The mean over the directions in which the feature is defined. Sorting makes it independent of the
        // orientation.
        let mut defined: Vec<f64> = by_direction.iter().filter_map(|f| f[k]).collect();
        defined.sort_by(f64::total_cmp);
        let mean = (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64);
        values.put(name, &format!("glcm_{feature}"), mean);
    }
    let patterns = patterns(&green, part);
    let all: u64 = patterns.iter().sum();
    for (k, n) in patterns.iter().enumerate() {
        values.put(name, &format!("lbp_{k}"), (all > 0).then(|| *n as f64 / all as f64));
    }
}

/// The symmetric co-occurrence matrix of adjacent pixels in one direction, both inside the mask: `[LEVELS, LEVELS]`,
/// summing to 1. `None` if there are no such pixels.
fn co_occurrence(green: &[u8], part: &Mask, (across, down): (isize, isize)) -> Option<Vec<f64>> {
    let mut counts = vec![0u64; LEVELS * LEVELS];
    for i in part.pixels() {
        let (x, y) = (i % part.width_px, i / part.width_px);
        let (Some(u), Some(v)) = (x.checked_add_signed(across), y.checked_add_signed(down)) else { continue };
        let j = v * part.width_px + u;
        if u < part.width_px && v < part.height_px && part.on[j] {
            let (a, b) = (usize::from(green[i] / STEP), usize::from(green[j] / STEP));
            counts[a * LEVELS + b] += 1;
            counts[b * LEVELS + a] += 1;
        }
    }
    let all: u64 = counts.iter().sum();
    (all > 0).then(|| counts.iter().map(|n| *n as f64 / all as f64).collect())
}

/// Features 1 to 13 of a co-occurrence matrix (Haralick, Shanmugam and Dinstein, IEEE Trans. SMC 3:610-621, 1973,
/// appendix) with levels from 1 and natural logarithms. Correlation and the first measure of information are undefined
/// if there is only one level.
fn haralick(matrix: &Option<Vec<f64>>) -> [Option<f64>; 13] {
    let Some(p) = matrix else { return [None; 13] };
    let mut marginal = [0.0; LEVELS];
    let (mut sums, mut differences) = ([0.0; 2 * LEVELS - 1], [0.0; LEVELS]);
    for i in 0..LEVELS {
        for j in 0..LEVELS {
            let share = p[i * LEVELS + j];
            marginal[i] += share;
            sums[i + j] += share;
            differences[i.abs_diff(j)] += share;
        }
    }
    let log = |v: f64| if v > 0.0 { v.ln() } else { 0.0 };
    let entropy = |shares: &[f64]| -shares.iter().map(|v| v * log(*v)).sum::<f64>();
    let mean_of =
        |shares: &[f64], from: f64| shares.iter().enumerate().map(|(k, v)| (k as f64 + from) * v).sum::<f64>();
    let variance_of = |shares: &[f64], mean: f64, from: f64| {
        shares.iter().enumerate().map(|(k, v)| (k as f64 + from - mean).powi(2) * v).sum::<f64>()
    };
    let total = |value: &dyn Fn(f64, f64, f64) -> f64| {
        let term = |k: usize| value((k / LEVELS) as f64 + 1.0, (k % LEVELS) as f64 + 1.0, p[k]);
        (0..p.len()).filter(|k| p[*k] > 0.0).map(term).sum::<f64>()
    };
    let mean = mean_of(&marginal, 1.0);
    let variance = variance_of(&marginal, mean, 1.0);
    let several = marginal.iter().filter(|v| **v > 0.0).count() > 1;
    let sum_average = mean_of(&sums, 2.0);
    let difference_mean = mean_of(&differences, 0.0);
    let (hx, hxy) = (entropy(&marginal), entropy(p));
    // The terms -sum p log(px py) and -sum px py log(px py) both equal the sum of the marginals' entropies.
    let hxy1 = 2.0 * hx;
    [
        Some(total(&|_, _, v| v * v)),
        Some(total(&|i, j, v| (i - j).powi(2) * v)),
        several.then(|| total(&|i, j, v| (i - mean) * (j - mean) * v) / variance),
        Some(variance),
        Some(total(&|i, j, v| v / (1.0 + (i - j).powi(2)))),
        Some(sum_average),
        Some(variance_of(&sums, sum_average, 2.0)),
        Some(entropy(&sums)),
        Some(hxy),
        Some(variance_of(&differences, difference_mean, 0.0)),
        Some(entropy(&differences)),
        several.then(|| (hxy - hxy1) / hx),
        Some((1.0 - (-2.0 * (hxy1 - hxy)).exp()).max(0.0).sqrt()),
    ]
}

/// Rotation-invariant uniform local binary patterns of eight neighbours at a distance of one pixel (LBP-riu2 8,1:
/// Ojala, Pietikäinen and Mäenpää, IEEE Trans. PAMI 24:971-987, 2002). Counts pixels whose neighbours that are at least
/// as bright form one run of 0 to 8, and last those with several runs. Pixels at the image's border are skipped.
fn patterns(green: &[u8], part: &Mask) -> [u64; NEIGHBOURS + 2] {
    // Diagonal neighbours are at (1, 1) / sqrt(2) and are interpolated with integer weights that sum to UNIT².
    const UNIT: i64 = 1 << 12;
    const NEAR: i64 = 2896; // UNIT / sqrt(2)
    let width = part.width_px;
    let mut counts = [0; NEIGHBOURS + 2];
    for i in part.pixels().filter(|i| !part.is_border(*i)) {
        let at = |across: isize, down: isize| i64::from(green[i.strict_add_signed(down * width as isize + across)]);
        let here = at(0, 0);
        let diagonal = |x: isize, y: isize| {
            let (near, far) = (NEAR, UNIT - NEAR);
            far * far * here + near * far * (at(x, 0) + at(0, y)) + near * near * at(x, y)
        };
        let straight = |x: isize, y: isize| UNIT * UNIT * at(x, y);
        let circle = [
            straight(1, 0),
            diagonal(1, -1),
            straight(0, -1),
            diagonal(-1, -1),
            straight(-1, 0),
            diagonal(-1, 1),
            straight(0, 1),
            diagonal(1, 1),
        ];
        let bright = circle.map(|v| v >= UNIT * UNIT * here);
        let changes = (0..NEIGHBOURS).filter(|k| bright[*k] != bright[(k + 1) % NEIGHBOURS]).count();
        let kind = if changes <= 2 { bright.iter().filter(|b| **b).count() } else { NEIGHBOURS + 1 };
        counts[kind] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(green: &[u8], width: usize, direction: (isize, isize)) -> Vec<f64> {
        let part = Mask::new(width, green.len() / width, |_| true);
        co_occurrence(green, &part, direction).unwrap()
    }

    /// The 4 x 4 image and its matrices in figure 3 of Haralick et al. 1973.
    #[test]
    fn co_occurrence_matches_haralicks_example() {
        let levels = [0, 0, 1, 1, 0, 0, 1, 1, 0, 2, 2, 2, 2, 2, 3, 3];
        let green: Vec<u8> = levels.iter().map(|v| v * STEP).collect();
        let counts = |direction, all: f64| -> Vec<Vec<u32>> {
            let p = matrix(&green, 4, direction);
            (0..4).map(|i| (0..4).map(|j| (p[i * LEVELS + j] * all).round() as u32).collect()).collect()
        };
        assert_eq!(counts((1, 0), 24.0), [[4, 2, 1, 0], [2, 4, 0, 0], [1, 0, 6, 1], [0, 0, 1, 2]]);
        assert_eq!(counts((0, -1), 24.0), [[6, 0, 2, 0], [0, 4, 2, 0], [2, 2, 2, 2], [0, 0, 2, 0]]);
        assert_eq!(counts((-1, -1), 18.0), [[2, 1, 3, 0], [1, 2, 1, 0], [3, 1, 0, 2], [0, 0, 2, 0]]);
        assert_eq!(counts((1, -1), 18.0), [[4, 1, 0, 0], [1, 2, 2, 0], [0, 2, 4, 1], [0, 0, 1, 0]]);
    }

    /// For the first of those matrices, divided by 24.
    #[test]
    fn haralick_features_match_hand_calculation() {
        let levels = [0, 0, 1, 1, 0, 0, 1, 1, 0, 2, 2, 2, 2, 2, 3, 3];
        let green: Vec<u8> = levels.iter().map(|v| v * STEP).collect();
        let got = haralick(&Some(matrix(&green, 4, (1, 0)))).map(Option::unwrap);
        let near = |k: usize, wanted: f64| assert!((got[k] - wanted).abs() < 1e-12, "{}: {}", HARALICK[k], got[k]);
        // Energy: (16 + 4 + 1 + 4 + 16 + 1 + 36 + 1 + 1 + 4) / 24².
        near(0, 84.0 / 576.0);
        // Contrast: 4 of distance 1 in levels 0-1, 2 of 0-2 squared, 2 of 2-3: (4 + 2 * 4 + 2) / 24.
        near(1, 14.0 / 24.0);
        // Marginals 7, 6, 8, 3 of 24; mean of 1 to 4: 55 / 24; mean of squares (7 + 24 + 72 + 48) / 24 = 151 / 24.
        let mean = 55.0 / 24.0;
        let variance = 151.0 / 24.0 - mean * mean;
        near(3, variance);
        // Mean of products: 4 * 1 + 4 * 2 + 2 * 3 + 4 * 4 + 6 * 9 + 2 * 12 + 2 * 16 = 144.
        near(2, (144.0 / 24.0 - mean * mean) / variance);
        near(4, (16.0 + 6.0 / 2.0 + 2.0 / 5.0) / 24.0);
        near(5, 2.0 * mean);
        // Var(i + j) = 2 var + 2 cov, and Var(i - j) = 2 var - 2 cov = contrast.
        near(6, 4.0 * variance - 14.0 / 24.0);
        // Differences 0, 1, 2 with 16, 6 and 2 of 24.
        let entropy = |n: &[f64]| -n.iter().map(|v| v / 24.0 * (v / 24.0).ln()).sum::<f64>();
        near(10, entropy(&[16.0, 6.0, 2.0]));
        near(9, 14.0 / 24.0 - (10.0f64 / 24.0).powi(2));
        let (hx, hxy) = (entropy(&[7.0, 6.0, 8.0, 3.0]), entropy(&[4.0, 2.0, 1.0, 2.0, 4.0, 1.0, 6.0, 1.0, 1.0, 2.0]));
        near(8, hxy);
        near(11, (hxy - 2.0 * hx) / hx);
        near(12, (1.0 - (-2.0 * (2.0 * hx - hxy)).exp()).sqrt());
        // Sums of levels from 1: 2 with 4, 3 with 4, 4 with 4 + 2, 6 with 6, 7 with 2, 8 with 2.
        near(7, entropy(&[4.0, 4.0, 6.0, 6.0, 2.0, 2.0]));
    }

    #[test]
    fn features_are_undefined_for_a_single_level_or_a_single_pixel() {
        let flat = haralick(&Some(matrix(&[9; 16], 4, (1, 0))));
        assert_eq!((flat[0], flat[1], flat[2], flat[11], flat[12]), (Some(1.0), Some(0.0), None, None, Some(0.0)));
        let single = Mask::new(4, 4, |i| i == 5);
        assert_eq!(haralick(&co_occurrence(&[9; 16], &single, (1, 0))), [None; 13]);
    }

    #[test]
    fn patterns_distinguish_flat_areas_edges_and_spots() {
        let count = |green: [u8; 9]| patterns(&green, &Mask::new(3, 3, |_| true));
        let only = |k: usize| std::array::from_fn(|i| u64::from(i == k));
        assert_eq!(count([7; 9]), only(8), "a flat area: all neighbours at least as bright");
        assert_eq!(count([1, 1, 1, 1, 9, 1, 1, 1, 1]), only(0), "a bright spot");
        assert_eq!(count([9, 9, 9, 5, 5, 5, 1, 1, 1]), only(5), "an edge: three neighbours above and two beside");
        assert_eq!(count([1, 9, 1, 1, 5, 1, 1, 9, 1]), only(9), "two runs");
    }
}
