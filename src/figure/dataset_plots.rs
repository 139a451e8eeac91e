//! Plots of a data set: cells per class, sizes of their boxes, colours of the backgrounds.

use super::svg::{
    COLOURS, FAINT, Figure, HEIGHT, INK, LARGE, LEFT, SMALL, Scale, WIDTH, aligned, class_label, dots, draw, draw_with,
    hex, rotated, text, x_axis,
};
use crate::class::Class;
use crate::report::thousands;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use std::fmt::Write;

/// Cells of each class: `counts[class]` is (usable, not used).
pub(crate) fn classes(counts: &[[u64; 2]; Class::COUNT]) -> Figure {
    let all: u64 = counts.iter().flatten().sum();
    let most = counts.iter().map(|c| c[0] + c[1]).max().unwrap_or(0).max(1);
    let svg = draw(|area| {
        let (top, bottom) = (12, HEIGHT as i32 - 60);
        let x = Scale { values: [0.0, most as f64], px: [LEFT, WIDTH as i32 - 130] };
        x_axis(area, x, top, bottom, "cells")?;
        let step = (bottom - top) / Class::COUNT as i32;
        for (class, [used, unused]) in Class::ALL.into_iter().zip(counts) {
            let y = top + step * class.index() as i32 + step / 2;
            class_label(area, class, y)?;
            let (end, whole) = (x.at(*used as f64), x.at((used + unused) as f64));
            let colour = COLOURS[class.index()];
            area.draw(&Rectangle::new([(LEFT, y - 18), (end, y + 18)], colour.filled()))?;
            area.draw(&Rectangle::new([(end, y - 18), (whole, y + 18)], colour.mix(0.35).filled()))?;
            let n = used + unused;
            let label = format!("{} ({:.1} %)", thousands(n), 100.0 * n as f64 / all.max(1) as f64);
            text(area, label, (whole + 8, y), aligned(LARGE, HPos::Left, VPos::Center))?;
        }
        Ok(())
    });
    Figure {
        name: "classes",
        title: "Cells per class",
        caption: match counts.iter().map(|c| c[1]).sum::<u64>() {
            0 => "By the data set's labels.".into(),
            n => format!("By the data set's labels; the paler part ({n} cells) is not used."),
        },
        svg,
    }
}

/// A value of every cell, one row per class, with the class's median; `label` is the axis's. `None` without values.
pub(crate) fn strips(
    title: &'static str,
    label: &str,
    caption: String,
    values: &[Vec<f64>; Class::COUNT],
) -> Option<Figure> {
    let (low, high) =
        (values.iter().flatten().copied().reduce(f64::min)?, values.iter().flatten().copied().reduce(f64::max)?);
    let margin = ((high - low) * 0.03).max(0.5);
    let x = Scale { values: [(low - margin).max(low.min(0.0)), high + margin], px: [LEFT, WIDTH as i32 - 16] };
    let (top, bottom) = (12, HEIGHT as i32 - 60);
    let step = (bottom - top) / Class::COUNT as i32;
    let mut marks = String::new();
    for (class, values) in Class::ALL.into_iter().zip(values) {
        let y = top + step * class.index() as i32 + step / 2;
        // Golden-ratio steps spread neighbouring dots, and are the same every time.
        let offset = |i: usize| ((i as f64 * 0.618_033_988_75).fract() - 0.5) * f64::from(step) * 0.66;
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        if let Some(median) = sorted.get(sorted.len() / 2).filter(|_| sorted.len() > 2) {
            let (x, half) = (x.at(*median), step * 2 / 5);
            let _ =
                writeln!(marks, "<path d=\"M{x} {}v{}\" stroke=\"#010203\" stroke-width=\"3\"/>", y - half, 2 * half);
        }
        let points = values.iter().enumerate().map(|(i, v)| (x.at(*v), y + offset(i).round() as i32));
        marks += &dots(points, COLOURS[class.index()], 4.0, 0.7);
    }
    let svg = draw_with(&marks, |area| {
        x_axis(area, x, top, bottom, label)?;
        Class::ALL
            .into_iter()
            .try_for_each(|class| class_label(area, class, top + step * class.index() as i32 + step / 2))
    });
    Some(Figure { name: "strips", title, caption, svg })
}

/// The background colour of every image, one panel per class, the other classes in grey; `None` without colours.
pub(crate) fn backgrounds(colours: &[(Class, [f32; 3])]) -> Option<Figure> {
    const COLUMNS: i32 = 3;
    let point = |rgb: &[f32; 3]| {
        let [r, g, b] = rgb.map(f64::from);
        [r - b, (r + g + b) / 3.0]
    };
    // Values far outside the middle 98 % are cut off, so that a single black image does not squeeze the others.
    let range = |axis: usize| {
        let mut values: Vec<f64> = colours.iter().map(|(_, c)| point(c)[axis]).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values.get((share * (values.len() - 1) as f64).round() as usize).copied();
        let (low, high) = (at(0.01)?, at(0.99)?);
        let beyond = 2.0 * (high - low).max(2.0);
        let (low, high) = (at(0.0)?.max(low - beyond), at(1.0)?.min(high + beyond));
        let margin = ((high - low) * 0.06).max(1.0);
        Some([low - margin, high + margin])
    };
    if colours.is_empty() {
        return None;
    }
    let (across, up) = (range(0)?, range(1)?);
    let (left, top, width, height) = (62, 28, 148, 130);
    let panel = |class: Class| {
        let (column, row) = (class.index() as i32 % COLUMNS, class.index() as i32 / COLUMNS);
        let (x, y) = (left + column * (width + 16), top + row * (height + 42));
        (Scale { values: across, px: [x, x + width] }, Scale { values: up, px: [y + height, y] })
    };
    let mut marks = String::new();
    for class in Class::ALL {
        let (x, y) = panel(class);
        let position = |(_, c): &&(Class, [f32; 3])| {
            let [across, up] = point(c);
            (x.at(across), y.at(up))
        };
        let (own, others): (Vec<_>, Vec<_>) = colours.iter().partition(|(c, _)| *c == class);
        marks += &dots(others.iter().map(position), INK, 3.0, 0.2);
        marks += &dots(own.iter().map(position), COLOURS[class.index()], 3.0, 0.6);
    }
    let svg = draw_with(&marks, |area| {
        for class in Class::ALL {
            let (x, y) = panel(class);
            let ([left, right], [bottom, top]) = (x.px, y.px);
            area.draw(&Rectangle::new([(left, top), (right, bottom)], FAINT))?;
            text(area, class.title(), ((left + right) / 2, top - 6), aligned(LARGE, HPos::Center, VPos::Bottom))?;
            // Tick labels stand left of each row of panels and below the last panel of each column.
            if class.index() as i32 % COLUMNS == 0 {
                let (ticks, decimals) = y.ticks(3.0);
                for v in ticks {
                    text(
                        area,
                        format!("{v:.decimals$}"),
                        (left - 6, y.at(v)),
                        aligned(SMALL, HPos::Right, VPos::Center),
                    )?;
                }
            }
            if class.index() + COLUMNS as usize >= Class::COUNT {
                let (ticks, decimals) = x.ticks(3.0);
                for v in ticks {
                    text(
                        area,
                        format!("{v:.decimals$}"),
                        (x.at(v), bottom + 6),
                        aligned(SMALL, HPos::Center, VPos::Top),
                    )?;
                }
            }
        }
        let middle = left + width + 8;
        text(
            area,
            "red minus blue, grey levels",
            (middle, HEIGHT as i32 - 18),
            aligned(LARGE, HPos::Center, VPos::Center),
        )?;
        text(area, "brightness, grey levels", (10, top + height + 21), rotated(LARGE))
    });
    Some(Figure {
        name: "backgrounds",
        title: "Background of each image",
        caption: "Colour of the plasma around the cells, one dot per image: warmer (yellow, pink) to the right, \
                  bluer to the left, brighter towards the top; other classes in grey. Clusters are batches: slides, \
                  days, stains or microscopes. Dots at the edge lie outside the plot."
            .into(),
        svg,
    })
}

/// The background colours themselves in file order, one row per class.
pub(crate) fn order(colours: &[(Class, [f32; 3])]) -> Figure {
    const COLUMNS: usize = 144;
    let (top, bottom) = (8, HEIGHT as i32 - 34);
    let step = (bottom - top) / Class::COUNT as i32;
    let mut marks = String::from("<g shape-rendering=\"crispEdges\">");
    for class in Class::ALL {
        let own: Vec<[f32; 3]> = colours.iter().filter(|(c, _)| *c == class).map(|(_, rgb)| *rgb).collect();
        let columns = own.len().min(COLUMNS);
        let x = Scale { values: [0.0, columns as f64], px: [LEFT, WIDTH as i32 - 10] };
        let y = top + step * class.index() as i32 + 5;
        for i in 0..columns {
            let part = &own[i * own.len() / columns..(i + 1) * own.len() / columns];
            let mean =
                [0, 1, 2].map(|c| (part.iter().map(|rgb| rgb[c]).sum::<f32>() / part.len() as f32).round() as u8);
            let (from, to) = (x.at(i as f64), x.at(i as f64 + 1.0));
            let _ =
                write!(marks, "<path d=\"M{from} {y}h{}v{}H{from}z\" fill=\"{}\"/>", to - from, step - 10, hex(mean));
        }
    }
    marks += "</g>\n";
    let svg = draw_with(&marks, |area| {
        for class in Class::ALL {
            let y = top + step * class.index() as i32;
            class_label(area, class, y + step / 2)?;
            area.draw(&Rectangle::new([(LEFT - 1, y + 4), (WIDTH as i32 - 10, y + step - 5)], FAINT))?;
        }
        let middle = (LEFT + WIDTH as i32 - 10) / 2;
        text(area, "files in order of name", (middle, bottom + 8), aligned(LARGE, HPos::Center, VPos::Top))
    });
    Figure {
        name: "order",
        title: "Backgrounds in file order",
        caption: "The background colours from each class's first file to its last. Steps are batches; a class whose \
                  row differs from the others can be recognised by its background alone."
            .into(),
        svg,
    }
}
