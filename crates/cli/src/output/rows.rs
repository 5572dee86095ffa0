//! Lists: a table by default, anything by template.

use std::io::Write;

use anyhow::Result;
use serde_json::Value;

use super::Template;

/// Spaces between columns.
const GAP: usize = 3;

/// A column of a table: its head, and the template of its cells.
pub(crate) type Column = (&'static str, &'static str);

/// Prints rows as `--format` says: nothing or `table` for the default columns, `table TEMPLATE`, `json`, or a template.
pub(crate) fn print_rows(rows: &[Value], format: Option<&str>, columns: &[Column]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match format {
        Some("json") => {
            for row in rows {
                writeln!(out, "{row}")?;
            }
        }
        None | Some("" | "table") => {
            let cells: Vec<&str> = columns.iter().map(|(_, cell)| *cell).collect();
            let heads: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
            print_table(&mut out, &heads.join("\t"), &Template::parse(&cells.join("\t"))?, rows)?;
        }
        Some(text) => match text.strip_prefix("table ") {
            Some(cells) => {
                let template = Template::parse(cells)?;
                print_table(&mut out, &template.head(), &template, rows)?;
            }
            None => {
                let template = Template::parse(text)?;
                for row in rows {
                    writeln!(out, "{}", template.render(row)?)?;
                }
            }
        },
    }
    Ok(())
}

/// Prints whole values: as JSON, all in one list, or each by template.
pub(crate) fn print_values(values: &[Value], format: Option<&str>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match format {
        None | Some("") => {
            let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut text = Vec::new();
            serde::Serialize::serialize(values, &mut serde_json::Serializer::with_formatter(&mut text, formatter))?;
            text.push(b'\n');
            out.write_all(&text)?;
        }
        Some("json") => {
            for value in values {
                writeln!(out, "{value}")?;
            }
        }
        Some(text) => {
            let template = Template::parse(text)?;
            for value in values {
                writeln!(out, "{}", template.render(value)?)?;
            }
        }
    }
    Ok(())
}

fn print_table(out: &mut impl Write, head: &str, template: &Template, rows: &[Value]) -> Result<()> {
    let mut lines = vec![head.to_owned()];
    for row in rows {
        lines.push(template.render(row)?);
    }
    let cells: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in &cells {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + GAP));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
