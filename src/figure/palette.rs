//! The colours of classes in figures. Those of the paper's classes, and the first of all others, are Okabe and Ito's,
//! which colour-blind readers can distinguish.

use crate::class::Classes;
use plotters::style::RGBColor;

/// The first colours of classes that have none of their own: Okabe and Ito's, without black and yellow, which are hard
/// to see on a dark and on a light page.
const FIRST: [[u8; 3]; 6] = [
    [0x00, 0x72, 0xb2],
    [0xd5, 0x5e, 0x00],
    [0x00, 0x9e, 0x73],
    [0xcc, 0x79, 0xa7],
    [0xe6, 0x9f, 0x00],
    [0x56, 0xb4, 0xe9],
];
/// Steps per channel between the further colours to choose from.
const STEP: usize = 15;
/// Range of Oklab's lightness that can be seen on a white and on a dark page.
const LIGHTNESS: std::ops::RangeInclusive<f64> = 0.45..=0.8;

/// A colour for each class: its own, or one that differs as much as possible from those of the other classes.
pub(super) fn colours(classes: &Classes) -> Vec<RGBColor> {
    let own: Vec<Option<[u8; 3]>> = classes.infos().iter().map(|info| parse(info.colour.as_deref()?)).collect();
    let mut taken: Vec<[u8; 3]> = own.iter().flatten().copied().collect();
    let free: Vec<[u8; 3]> = FIRST.into_iter().filter(|colour| !taken.contains(colour)).collect();
    let mut free = free.into_iter();
    let mut colour = |own: Option<[u8; 3]>| {
        let colour = own.unwrap_or_else(|| {
            let next = free.next().unwrap_or_else(|| farthest(&taken));
            taken.push(next);
            next
        });
        RGBColor(colour[0], colour[1], colour[2])
    };
    own.into_iter().map(&mut colour).collect()
}

/// The colour of `#rrggbb`.
fn parse(text: &str) -> Option<[u8; 3]> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
    let channel = |c: usize| u8::from_str_radix(&digits[2 * c..2 * c + 2], 16).ok();
    Some([channel(0)?, channel(1)?, channel(2)?])
}

/// The colour whose nearest among `taken` is farthest away.
fn farthest(taken: &[[u8; 3]]) -> [u8; 3] {
    let levels = || (0..=u8::MAX).step_by(STEP);
    let all = levels().flat_map(|r| levels().flat_map(move |g| levels().map(move |b| [r, g, b])));
    let places: Vec<[f64; 3]> = taken.iter().copied().map(oklab).collect();
    let distance = |colour: [u8; 3]| {
        let [l, a, b] = oklab(colour);
        let square = |[x, y, z]: &[f64; 3]| (l - x).powi(2) + (a - y).powi(2) + (b - z).powi(2);
        places.iter().map(square).fold(f64::MAX, f64::min)
    };
    let visible = all.filter(|colour| LIGHTNESS.contains(&oklab(*colour)[0]));
    let farthest = visible.map(|colour| (distance(colour), colour)).max_by(|a, b| a.0.total_cmp(&b.0));
    farthest.map_or(FIRST[0], |(_, colour)| colour)
}

/// Oklab (Ottosson 2020): lightness, green to red, blue to yellow; distances in it are roughly those that are seen.
fn oklab(rgb: [u8; 3]) -> [f64; 3] {
    let linear = |v: u8| {
        let v = f64::from(v) / 255.0;
        if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    };
    let [r, g, b] = rgb.map(linear);
    let l = (0.412_221_470_8 * r + 0.536_332_536_3 * g + 0.051_445_992_9 * b).cbrt();
    let m = (0.211_903_498_2 * r + 0.680_699_545_1 * g + 0.107_396_956_6 * b).cbrt();
    let s = (0.088_302_461_9 * r + 0.281_718_837_6 * g + 0.629_978_700_5 * b).cbrt();
    [
        0.210_454_255_3 * l + 0.793_617_785_0 * m - 0.004_072_046_8 * s,
        1.977_998_495_1 * l - 2.428_592_205_0 * m + 0.450_593_709_9 * s,
        0.025_904_037_1 * l + 0.782_771_766_2 * m - 0.808_675_766_0 * s,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::{Class, ClassInfo};
    use std::collections::HashSet;

    #[test]
    fn the_papers_classes_keep_their_colours() {
        let expected = FIRST[..5].iter().map(|[r, g, b]| RGBColor(*r, *g, *b)).collect::<Vec<_>>();
        assert_eq!(colours(&Classes::wbc5()), expected);
        // Without colours of their own too.
        assert_eq!(colours(&Classes::named(Classes::wbc5().iter())), expected);
    }

    #[test]
    fn a_hundred_classes_have_different_colours() {
        let names = (0..Classes::MAX).map(|i| ClassInfo::new(Class::new(&format!("class-{i}"))));
        let mut infos: Vec<ClassInfo> = names.collect();
        infos[7].colour = Some("#0072B2".into());
        infos[8].colour = Some("not a colour".into());
        let colours = colours(&Classes::new(infos));
        assert_eq!(colours[7], RGBColor(0x00, 0x72, 0xb2));
        let places: Vec<[f64; 3]> = colours.iter().map(|c| oklab([c.0, c.1, c.2])).collect();
        let different: HashSet<(u8, u8, u8)> = colours.iter().map(|c| (c.0, c.1, c.2)).collect();
        assert_eq!(different.len(), Classes::MAX);
        let pairs = (0..places.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
        let distance = |(i, j): (usize, usize)| -> f64 {
            (0..3).map(|c| (places[i][c] - places[j][c]).powi(2)).sum::<f64>().sqrt()
        };
        // A just noticeable difference is about 0.02.
        assert!(pairs.map(distance).fold(f64::MAX, f64::min) > 0.04);
    }
}
