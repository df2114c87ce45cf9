//! Figures as a table for people or as JSON for machines.

use anyhow::{Context, Result};
use indicatif::HumanCount;
use serde::Serialize;
use std::path::Path;

/// What a scenario has found.
#[derive(Debug, Serialize)]
pub struct Report {
    pub scenario: &'static str,
    /// The result on which a budget is set.
    pub figures: Vec<Figure>,
    /// How it came about, row by row; all rows have the columns' number of cells.
    pub columns: Vec<&'static str>,
    pub rows: Vec<Vec<u64>>,
}

/// One result.
#[derive(Debug, Serialize)]
pub struct Figure {
    pub name: &'static str,
    pub value: u64,
    pub unit: &'static str,
    /// What it may be at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
}

impl Report {
    /// Prints it to standard output: as JSON if that is asked for with `-`, else as a table, with JSON in that file.
    pub fn print(&self, json: Option<&Path>) -> Result<()> {
        print(self, &self.table(), json)
    }

    fn table(&self) -> String {
        let cell = |value: &u64| HumanCount(*value).to_string();
        let rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|at| rows.iter().map(|row| row[at].len()).chain([self.columns[at].len()]).max().unwrap_or(0))
            .collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let cells: Vec<String> =
                cells.zip(&widths).map(|(text, width)| format!("{text:>width$}", width = *width)).collect();
            format!("{}\n", cells.join("  "))
        };
        let mut text = line(&mut self.columns.iter().copied());
        for row in &rows {
            text += &line(&mut row.iter().map(String::as_str));
        }
        text.push('\n');
        for figure in &self.figures {
            text += &format!("{}: {} {}", figure.name, HumanCount(figure.value), figure.unit);
            if let Some(budget) = figure.budget {
                let verdict = if figure.value <= budget { "within" } else { "OVER" };
                text += &format!(" ({verdict} the budget of {})", HumanCount(budget));
            }
            text.push('\n');
        }
        text
    }
}

/// Prints figures to standard output, as a table unless JSON is asked for with `-`; and writes JSON to a file if one is named.
pub fn print(figures: &impl Serialize, table: &str, json: Option<&Path>) -> Result<()> {
    if json == Some(Path::new("-")) {
        println!("{}", serde_json::to_string(figures)?);
        return Ok(());
    }
    print!("{table}");
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(figures)?;
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// Cells in columns: the first to the left, the others to the right.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|at| {
            rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| match at {
            0 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_its_columns_in_line_and_says_whether_the_budget_holds() {
        let report = Report {
            scenario: "test",
            figures: vec![Figure { name: "size", value: 2049, unit: "bytes", budget: Some(2048) }],
            columns: vec!["n", "bytes"],
            rows: vec![vec![1, 2], vec![1000, 1_234_567]],
        };
        let expected = "    n      bytes\n    1          2\n1,000  1,234,567\n\nsize: 2,049 bytes (OVER the budget of 2,048)\n";
        assert_eq!(report.table(), expected);
    }
}
