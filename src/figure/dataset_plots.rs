//! Plots of a data set: cells per class, sizes of their boxes, colours of the backgrounds.

use super::palette::colours as class_colours;
use super::svg::{
    FAINT, Figure, INK, LARGE, Rows, SMALL, Scale, WIDTH, aligned, dots, draw, draw_with, hex, label, rotated, text,
    x_axis,
};
use crate::class::{Class, Classes};
use crate::figure::gallery::evenly_spaced;
use crate::report::thousands;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use std::fmt::Write;

/// Dots of other classes in all panels of backgrounds: more would only make the page larger.
const OTHERS: usize = 40_000;

/// Cells of each class: `counts[class]` is (usable, not used), in class order.
pub(crate) fn classes(classes: &Classes, counts: &[[u64; 2]]) -> Figure {
    let rows = Rows::new(classes, classes.iter(), 12, 60);
    let all: u64 = counts.iter().flatten().sum();
    let most = counts.iter().map(|c| c[0] + c[1]).max().unwrap_or(0).max(1);
    let svg = draw(rows.size, |area| {
        let x = Scale { values: [0.0, most as f64], px: [rows.left, WIDTH - 130] };
        x_axis(area, x, rows.top, rows.bottom, "cells")?;
        rows.draw_labels(area)?;
        let half = 18.min(rows.step * 2 / 5);
        for ((row, [used, unused]), colour) in counts.iter().enumerate().zip(class_colours(classes)) {
            let y = rows.middle(row);
            let (end, whole) = (x.at(*used as f64), x.at((used + unused) as f64));
            area.draw(&Rectangle::new([(rows.left, y - half), (end, y + half)], colour.filled()))?;
            area.draw(&Rectangle::new([(end, y - half), (whole, y + half)], colour.mix(0.35).filled()))?;
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
        size: rows.size,
        svg,
    }
}

/// A value of every cell, one row per class, with the class's median; `label` is the axis's. `None` without values.
pub(crate) fn strips(
    title: &'static str,
    label: &str,
    caption: String,
    classes: &Classes,
    values: &[Vec<f64>],
) -> Option<Figure> {
    let rows = Rows::new(classes, classes.iter(), 12, 60);
    let (low, high) =
        (values.iter().flatten().copied().reduce(f64::min)?, values.iter().flatten().copied().reduce(f64::max)?);
    let margin = ((high - low) * 0.03).max(0.5);
    let x = Scale { values: [(low - margin).max(low.min(0.0)), high + margin], px: [rows.left, WIDTH - 16] };
    let mut marks = String::new();
    for ((row, values), colour) in values.iter().enumerate().zip(class_colours(classes)) {
        let y = rows.middle(row);
        // Golden-ratio steps spread neighbouring dots, and are the same every time.
        let offset = |i: usize| ((i as f64 * 0.618_033_988_75).fract() - 0.5) * f64::from(rows.step) * 0.66;
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        if let Some(median) = sorted.get(sorted.len() / 2).filter(|_| sorted.len() > 2) {
            let (x, half) = (x.at(*median), rows.step * 2 / 5);
            let _ =
                writeln!(marks, "<path d=\"M{x} {}v{}\" stroke=\"#010203\" stroke-width=\"3\"/>", y - half, 2 * half);
        }
        let points = values.iter().enumerate().map(|(i, v)| (x.at(*v), y + offset(i).round() as i32));
        marks += &dots(points, colour, 4.0, 0.7);
    }
    let svg = draw_with(rows.size, &marks, |area| {
        x_axis(area, x, rows.top, rows.bottom, label)?;
        rows.draw_labels(area)
    });
    Some(Figure { name: "strips", title, caption, size: rows.size, svg })
}

/// The background colour of every image, one panel per class, the other classes in grey; `None` without colours.
pub(crate) fn backgrounds(classes: &Classes, colours: &[(Class, [f32; 3])]) -> Option<Figure> {
    // Many panels fill the width of a page.
    let columns = if classes.len() <= 9 { 3 } else { 6 };
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
    let panel = |i: usize| {
        let (column, row) = ((i % columns) as i32, (i / columns) as i32);
        let (x, y) = (left + column * (width + 16), top + row * (height + 42));
        (Scale { values: across, px: [x, x + width] }, Scale { values: up, px: [y + height, y] })
    };
    let rows = classes.len().div_ceil(columns) as i32;
    let size = [WIDTH.max(left + columns as i32 * (width + 16) + 6), top + rows * (height + 42) + 28];
    let mut marks = String::new();
    for ((i, class), colour) in classes.iter().enumerate().zip(class_colours(classes)) {
        let (x, y) = panel(i);
        let position = |(_, c): &&(Class, [f32; 3])| {
            let [across, up] = point(c);
            (x.at(across), y.at(up))
        };
        let (own, others): (Vec<_>, Vec<_>) = colours.iter().partition(|(c, _)| *c == class);
        let others = evenly_spaced(&others, OTHERS / classes.len());
        marks += &dots(others.iter().map(position), INK, 3.0, 0.2);
        marks += &dots(own.iter().map(position), colour, 3.0, 0.6);
    }
    let svg = draw_with(size, &marks, |area| {
        for (i, class) in classes.iter().enumerate() {
            let (x, y) = panel(i);
            let ([left, right], [bottom, top]) = (x.px, y.px);
            area.draw(&Rectangle::new([(left, top), (right, bottom)], FAINT))?;
            text(
                area,
                label(classes, class),
                ((left + right) / 2, top - 6),
                aligned(LARGE, HPos::Center, VPos::Bottom),
            )?;
            // Tick labels stand left of each row of panels and below the last panel of each column.
            if i % columns == 0 {
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
            if i + columns >= classes.len() {
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
        // Below the panels of the last row.
        let last = (classes.len() - 1) % columns + 1;
        let middle = left + (last as i32 * (width + 16) - 16) / 2;
        text(area, "red minus blue, grey levels", (middle, size[1] - 18), aligned(LARGE, HPos::Center, VPos::Center))?;
        text(area, "brightness, grey levels", (10, top + (rows * (height + 42) - 42) / 2), rotated(LARGE))
    });
    let grey = match colours.len() > OTHERS / classes.len() {
        true => "a sample of the other classes in grey",
        false => "other classes in grey",
    };
    Some(Figure {
        name: "backgrounds",
        title: "Background of each image",
        caption: format!(
            "Colour of the plasma around the cells, one dot per image: warmer (yellow, pink) to the right, bluer to \
             the left, brighter towards the top; {grey}. Clusters are batches: slides, days, stains or microscopes. \
             Dots at the edge lie outside the plot."
        ),
        size,
        svg,
    })
}

/// The background colours themselves in file order, one row per class.
pub(crate) fn order(classes: &Classes, colours: &[(Class, [f32; 3])]) -> Figure {
    const COLUMNS: usize = 144;
    let rows = Rows::new(classes, classes.iter(), 8, 34);
    let step = rows.step;
    let mut marks = String::from("<g shape-rendering=\"crispEdges\">");
    for (row, class) in classes.iter().enumerate() {
        let own: Vec<[f32; 3]> = colours.iter().filter(|(c, _)| *c == class).map(|(_, rgb)| *rgb).collect();
        let columns = own.len().min(COLUMNS);
        let x = Scale { values: [0.0, columns as f64], px: [rows.left, WIDTH - 10] };
        let y = rows.start(row) + 5;
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
    let svg = draw_with(rows.size, &marks, |area| {
        rows.draw_labels(area)?;
        for row in 0..classes.len() {
            let y = rows.start(row);
            area.draw(&Rectangle::new([(rows.left - 1, y + 4), (WIDTH - 10, y + step - 5)], FAINT))?;
        }
        let middle = (rows.left + WIDTH - 10) / 2;
        text(area, "files in order of name", (middle, rows.bottom + 8), aligned(LARGE, HPos::Center, VPos::Top))
    });
    Figure {
        name: "order",
        title: "Backgrounds in file order",
        caption: "The background colours from each class's first file to its last. Steps are batches; a class whose \
                  row differs from the others can be recognised by its background alone."
            .into(),
        size: rows.size,
        svg,
    }
}
