//! A table as rows of text, and its output for the terminal, Markdown, CSV and LaTeX.

use serde::{Serialize, Serializer};
use serde_json::Value;
use std::fmt::Write;

/// Characters per line of the notes on the terminal: about the width of a table of ten folds.
const WIDTH: usize = 100;

/// A finished table. Every row has one cell per column.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sheet {
    /// Its number in the paper; `None` where it is not one of the paper's.
    pub table: Option<u32>,
    /// A short name for its file, unique among the tables of one report.
    #[serde(skip)]
    pub label: String,
    /// Its title, without the number.
    pub title: String,
    /// The run that it shows; `None` where it shows several or none.
    pub run: Option<String>,
    /// Headings of the columns.
    pub columns: Vec<String>,
    /// The columns with text, aligned left; the others have numbers.
    #[serde(skip)]
    pub left: &'static [usize],
    /// The cells, row by row. In JSON a cell that is a number is one, "98.3%" is 98.3, and "-" is null.
    #[serde(serialize_with = "cells")]
    pub rows: Vec<Vec<String>>,
    /// What a reader must know before quoting the figures: a few notes.
    pub summary: Vec<String>,
    /// Further notes: definitions, methods, limitations.
    pub notes: Vec<String>,
}

fn cells<S: Serializer>(rows: &[Vec<String>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(rows.iter().map(|row| row.iter().map(|cell| number(cell)).collect::<Vec<_>>()))
}

/// A cell as a JSON value.
fn number(cell: &str) -> Value {
    let digits = cell.strip_suffix('%').unwrap_or(cell).trim().replace(',', "");
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+');
    match (cell, digits.parse::<i64>(), digits.parse::<f64>()) {
        ("-", ..) => Value::Null,
        (_, Ok(whole), _) if is_number => whole.into(),
        (_, _, Ok(value)) if is_number => value.into(),
        _ => cell.into(),
    }
}

impl Sheet {
    /// A table that is not one of the paper's, without notes. Its first column is text, the others are numbers.
    pub fn plain(
        label: &str,
        title: &str,
        columns: impl IntoIterator<Item = String>,
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> Sheet {
        Sheet {
            table: None,
            label: label.into(),
            title: title.into(),
            run: None,
            columns: columns.into_iter().collect(),
            left: &[0],
            rows: rows.into_iter().collect(),
            summary: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The summary, then the further notes.
    pub fn all_notes(&self) -> impl Iterator<Item = &String> {
        self.summary.iter().chain(&self.notes)
    }

    /// The title with the number: "Table 3: ...".
    pub fn heading(&self) -> String {
        match self.table {
            Some(number) => format!("Table {number}: {}", self.title),
            None => self.title.clone(),
        }
    }

    /// `left` or `right` for each column.
    fn alignments<'a>(&self, left: &'a str, right: &'a str) -> Vec<&'a str> {
        (0..self.columns.len()).map(|i| if self.left.contains(&i) { left } else { right }).collect()
    }

    /// For the terminal: with the summary below, or with all notes.
    pub fn text(&self, all_notes: bool) -> String {
        use comfy_table::{CellAlignment, Table, presets};
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header(&self.columns);
        self.rows.iter().for_each(|row| {
            table.add_row(row);
        });
        for (i, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 0));
            if !self.left.contains(&i) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = format!("{}\n{table}", self.heading());
        let notes: &[String] = if all_notes { &self.notes } else { &[] };
        for note in self.summary.iter().chain(notes) {
            let _ = write!(text, "\n- {}", wrapped(note, "\n  "));
        }
        text
    }

    /// GitHub-flavoured Markdown.
    pub fn markdown(&self) -> String {
        let escape = |cell: &String| cell.replace('|', "\\|");
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("**{}**\n\n", self.heading());
        text += &line(self.columns.iter().map(escape).collect());
        text += &line(self.alignments("---", "---:").into_iter().map(String::from).collect());
        self.rows.iter().for_each(|row| text += &line(row.iter().map(escape).collect()));
        text += "\n";
        self.all_notes().for_each(|note| text += &format!("- {note}\n"));
        text
    }

    /// Columns and rows, without notes.
    pub fn csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in std::iter::once(&self.columns).chain(&self.rows) {
            writer.write_record(row).expect("writing to memory");
        }
        String::from_utf8(writer.into_inner().expect("writing to memory")).expect("cells are text")
    }

    /// A `table` environment with `booktabs` rules.
    pub fn latex(&self) -> String {
        let line = |cells: &Vec<String>| cells.iter().map(|c| latex(c)).collect::<Vec<_>>().join(" & ") + " \\\\\n";
        let mut text = String::from("% \\usepackage{booktabs}\n\\begin{table}\n\\centering\n");
        let _ = write!(text, "\\caption{{{}}}\n\\label{{tab:wbc-{}}}\n", latex(&self.title), self.label);
        let _ = writeln!(text, "\\begin{{tabular}}{{{}}}\n\\toprule", self.alignments("l", "r").concat());
        text += &line(&self.columns);
        text += "\\midrule\n";
        self.rows.iter().for_each(|row| text += &line(row));
        text += "\\bottomrule\n\\end{tabular}\n";
        self.all_notes().for_each(|note| text += &format!("\\par\\footnotesize {}\n", latex(note)));
        text + "\\end{table}\n"
    }
}

/// Breaks `text` between words, so that no line has more than [`WIDTH`] characters unless a word is longer.
fn wrapped(text: &str, newline: &str) -> String {
    let (mut lines, mut width) = (String::new(), 0);
    for word in text.split(' ') {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > WIDTH {
            (lines, width) = (lines + newline, 0);
        } else if width > 0 {
            (lines, width) = (lines + " ", width + 1);
        }
        (lines, width) = (lines + word, width + length);
    }
    lines
}

/// Escapes the special characters of LaTeX.
fn latex(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '%' | '&' | '_' | '#' | '$' | '{' | '}' => escaped.extend(['\\', c]),
            '~' => escaped += "\\textasciitilde{}",
            '^' => escaped += "\\textasciicircum{}",
            '\\' => escaped += "\\textbackslash{}",
            '<' | '>' => escaped.extend(['$', c, '$']),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::{Sheet, number, wrapped};

    #[test]
    fn cells_are_numbers_in_json() {
        let cells =
            ["83.3", "100.0", "5,986", "98.34%", "62", "-", "", "97.6 to 98.9", "neutrophil", "+1.5", "-2", "3 of 4"];
        let json = serde_json::json!(cells.map(number));
        let expected = serde_json::json!([
            83.3,
            100.0,
            5986,
            98.34,
            62,
            null,
            "",
            "97.6 to 98.9",
            "neutrophil",
            1.5,
            -2,
            "3 of 4"
        ]);
        assert_eq!(json, expected);
    }

    #[test]
    fn notes_are_wrapped_between_words() {
        let text = "word ".repeat(30) + &"x".repeat(120) + " end";
        let lines: Vec<String> = wrapped(&text, "\n").lines().map(String::from).collect();
        assert_eq!(lines.join(" "), text);
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [99, 49, 120, 3]);
    }

    #[test]
    fn special_characters_are_escaped() {
        let sheet = Sheet {
            table: Some(2),
            label: "2".into(),
            title: "50 % of a_b".into(),
            run: None,
            columns: ["Data set", "", "NE"].map(String::from).into(),
            left: &[0, 1],
            rows: vec![["a|b".into(), "x, \"y\" & z".into(), "1".into()].into()],
            summary: Vec::new(),
            notes: vec!["p < 0.05".into()],
        };
        assert!(sheet.markdown().contains("| a\\|b | x, \"y\" & z | 1 |"));
        assert!(sheet.csv().contains("a|b,\"x, \"\"y\"\" & z\",1"));
        let latex = sheet.latex();
        assert!(latex.contains("a|b & x, \"y\" \\& z & 1 \\\\") && latex.contains("50 \\% of a\\_b"));
        assert!(latex.contains("\\begin{tabular}{llr}") && latex.contains("p $<$ 0.05"));
    }
}
