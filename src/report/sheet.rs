//! A table as rows of text, and how it is written for the terminal, Markdown, CSV and LaTeX.

use serde::Serialize;
use std::fmt::Write;

/// A finished table. Every row has one cell a column.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sheet {
    /// Its number in the paper.
    pub table: u32,
    pub title: String,
    /// The run that it shows, where it shows one.
    pub run: Option<String>,
    /// Heads; the first two columns are names, the others numbers.
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// What must be known to read it: data, definitions, and what it cannot claim.
    pub notes: Vec<String>,
}

impl Sheet {
    /// For the terminal.
    pub fn text(&self) -> String {
        use comfy_table::{CellAlignment, Table, presets};
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_header(&self.columns);
        self.rows.iter().for_each(|row| {
            table.add_row(row);
        });
        for i in 2..self.columns.len() {
            if let Some(column) = table.column_mut(i) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 0));
        }
        let mut text = format!("Table {}: {}\n{table}", self.table, self.title);
        for note in &self.notes {
            let _ = write!(text, "\n- {note}");
        }
        text
    }

    /// GitHub-flavoured Markdown.
    pub fn markdown(&self) -> String {
        let escape = |cell: &String| cell.replace('|', "\\|");
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("**Table {}: {}**\n\n", self.table, self.title);
        text += &line(self.columns.iter().map(escape).collect());
        text += &line((0..self.columns.len()).map(|i| if i < 2 { "---".into() } else { "---:".into() }).collect());
        self.rows.iter().for_each(|row| text += &line(row.iter().map(escape).collect()));
        text += "\n";
        self.notes.iter().for_each(|note| text += &format!("- {note}\n"));
        text
    }

    /// Head and rows; no notes.
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
        let _ = write!(text, "\\caption{{{}}}\n\\label{{tab:wbc-{}}}\n", latex(&self.title), self.table);
        let _ =
            writeln!(text, "\\begin{{tabular}}{{ll{}}}\n\\toprule", "r".repeat(self.columns.len().saturating_sub(2)));
        text += &line(&self.columns);
        text += "\\midrule\n";
        self.rows.iter().for_each(|row| text += &line(row));
        text += "\\bottomrule\n\\end{tabular}\n";
        self.notes.iter().for_each(|note| text += &format!("\\par\\footnotesize {}\n", latex(note)));
        text + "\\end{table}\n"
    }
}

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
    use super::Sheet;

    #[test]
    fn names_that_mean_something_to_a_format_are_escaped() {
        let sheet = Sheet {
            table: 2,
            title: "50 % of a_b".into(),
            run: None,
            columns: ["Data set", "", "NE"].map(String::from).into(),
            rows: vec![["a|b".into(), "x, \"y\" & z".into(), "1".into()].into()],
            notes: vec!["p < 0.05".into()],
        };
        assert!(sheet.markdown().contains("| a\\|b | x, \"y\" & z | 1 |"));
        assert!(sheet.csv().contains("a|b,\"x, \"\"y\"\" & z\",1"));
        let latex = sheet.latex();
        assert!(latex.contains("a|b & x, \"y\" \\& z & 1 \\\\") && latex.contains("50 \\% of a\\_b"));
        assert!(latex.contains("\\begin{tabular}{llr}") && latex.contains("p $<$ 0.05"));
    }
}
