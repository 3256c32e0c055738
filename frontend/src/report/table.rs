//! Tables for people: columns that line up, a rule under the header, and nothing else.

use std::io::IsTerminal;

use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, TableComponent};

/// What the terminal at standard output can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Bold and colours.
    pub color: bool,
    /// Columns to keep within, if it is a terminal.
    pub width: Option<u16>,
}

impl Style {
    /// The style for standard output: plain if it is no terminal, or if `NO_COLOR` is set.
    pub fn detect() -> Style {
        if !std::io::stdout().is_terminal() {
            return Style::default();
        }
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Style { color: !plain, width: comfy_table::Table::new().width() }
    }

    /// Text in bold.
    pub fn bold(self, text: &str) -> String {
        if self.color { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The alignment of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table being filled.
pub struct Table {
    inner: comfy_table::Table,
    columns: Vec<Align>,
    color: bool,
    bounded: bool,
}

impl Table {
    /// A table with these column titles.
    pub fn new(style: Style, columns: &[(&str, Align)]) -> Table {
        let mut inner = comfy_table::Table::new();
        inner.load_preset(comfy_table::presets::NOTHING);
        inner.set_style(TableComponent::HeaderLines, '─');
        inner.set_style(TableComponent::MiddleHeaderIntersections, '─');
        inner.set_content_arrangement(ContentArrangement::Disabled);
        if let Some(width) = style.width {
            inner.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        if style.color {
            inner.enforce_styling();
        } else {
            inner.force_no_tty();
        }
        let columns_align: Vec<Align> = columns.iter().map(|&(_, align)| align).collect();
        let mut table = Table { inner, columns: columns_align, color: style.color, bounded: style.width.is_some() };
        let titles: Vec<Cell> = columns.iter().enumerate().map(|(i, (title, _))| table.cell(i, title)).collect();
        let bold = |cell: Cell| if table.color { cell.add_attribute(Attribute::Bold) } else { cell };
        let titles: Vec<Cell> = titles.into_iter().map(bold).collect();
        table.inner.set_header(titles);
        table
    }

    /// Adds a row.
    pub fn row<T: ToString>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells: Vec<Cell> = cells.into_iter().enumerate().map(|(i, text)| self.cell(i, &text.to_string())).collect();
        self.inner.add_row(cells);
    }

    /// Adds a row whose last cell stands out.
    pub fn row_with_result<T: ToString>(&mut self, cells: impl IntoIterator<Item = T>) {
        let texts: Vec<String> = cells.into_iter().map(|text| text.to_string()).collect();
        let last = texts.len().saturating_sub(1);
        let cells: Vec<Cell> = texts
            .iter()
            .enumerate()
            .map(|(i, text)| match i == last && self.color {
                true => self.cell(i, text).fg(Color::Green).add_attribute(Attribute::Bold),
                false => self.cell(i, text),
            })
            .collect();
        self.inner.add_row(cells);
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.inner.row_count() == 0
    }

    fn cell(&self, column: usize, text: &str) -> Cell {
        let alignment = match self.columns.get(column) {
            Some(Align::Right) => CellAlignment::Right,
            _ => CellAlignment::Left,
        };
        Cell::new(text).set_alignment(alignment)
    }

    /// The table, a line a row, without white space at the ends of lines.
    pub fn render(mut self) -> String {
        if self.bounded {
            // Numbers are never broken; what has to give way are words.
            for (i, align) in self.columns.iter().enumerate() {
                if *align == Align::Right
                    && let Some(column) = self.inner.column_mut(i)
                {
                    column.set_constraint(ColumnConstraint::ContentWidth);
                }
            }
        }
        let text: Vec<String> = self.inner.lines().map(|line| line.trim_end().to_owned()).collect();
        text.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(Style::default(), &[("layer", Align::Left), ("bytes", Align::Right)]);
        table.row(["conv", "12"]);
        table.row(["a longer name", "3"]);
        assert_eq!(
            table.render(),
            " layer           bytes\n───────────────────────\n conv               12\n a longer name       3\n"
        );
    }
}
