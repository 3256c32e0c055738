//! Reports as tables for the terminal.

use std::fmt::Write;

use super::table::{Align, Style, Table};
use super::{CompileReport, Layer, Measured, OutputDistance, storage_table};

/// Layers listed before the smallest are summed up in one row.
const MAX_LAYERS: usize = 24;

/// Reasons listed, and nodes named for each.
const MAX_REASONS: usize = 12;
const MAX_NODES: usize = 3;

/// A number of bytes: `812 B`, `26.5 kB`, `14.2 MB`.
pub fn bytes(n: u64) -> String {
    si(n as f64, "B")
}

/// A number with a separator between thousands: `3,504,872`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A share: `12.3 %`.
pub fn percent(share: f64) -> String {
    format!("{:.*} %", if share == 0.0 || share == 1.0 { 0 } else { 1 }, 100.0 * share)
}

/// An energy given in pJ: `1.2 mJ`.
pub fn energy(pj: f64) -> String {
    match pj {
        _ if pj >= 1e9 => format!("{:.3} mJ", pj / 1e9),
        _ if pj >= 1e6 => format!("{:.1} µJ", pj / 1e6),
        _ if pj >= 1e3 => format!("{:.1} nJ", pj / 1e3),
        _ => format!("{pj:.0} pJ"),
    }
}

/// Three digits and a decimal prefix.
fn si(x: f64, unit: &str) -> String {
    let (x, prefix) = match x {
        _ if x >= 999.5e6 => (x / 1e9, "G"),
        _ if x >= 999.5e3 => (x / 1e6, "M"),
        _ if x >= 1e3 => (x / 1e3, "k"),
        _ => return format!("{x:.0} {unit}"),
    };
    let digits = if x < 9.995 { 2 } else { usize::from(x < 99.95) };
    format!("{x:.digits$} {prefix}{unit}")
}

fn ratio(before: f64, after: f64) -> String {
    if before == after || after == 0.0 { String::new() } else { format!("{:.2}×", before / after) }
}

/// The report of a compilation. With `all`, layers and reasons are listed to the last.
pub fn compile_report(report: &CompileReport, style: Style, all: bool) -> String {
    let mut out = String::new();
    let heading = |out: &mut String, text: &str| push(out, &format!("\n{}\n", style.bold(text)));
    push(&mut out, &format!("{}\n\n", style.bold(&report.model)));
    push(&mut out, &totals(report, style));
    push(
        &mut out,
        &format!(
            "\n{} as f32 would take {}; {} {}.\n",
            plural(report.input.params, "parameter"),
            bytes(report.ratios.dense_f32_bytes),
            if report.files.iter().any(|f| f.format == "optc") { "in the .optc they take" } else { "kept they take" },
            bytes(report.ratios.weight_bytes),
        ),
    );
    if !report.open_dims.is_empty() {
        push(&mut out, &format!("Open dimensions count as 1 in MACs and energy: {}.\n", report.open_dims.join(", ")));
    }
    if !report.layers.is_empty() {
        heading(&mut out, "Layers");
        push(&mut out, &layer_table(&report.layers, style, all));
    }
    if !report.encodings.is_empty() {
        heading(&mut out, "Bytes by encoding");
        push(&mut out, &encoding_table(report, style));
    }
    if all && !report.storage.is_empty() {
        heading(&mut out, "Constants in the .optc");
        push(&mut out, &storage_table(&report.storage, style));
    }
    heading(&mut out, "Passes");
    push(&mut out, &pass_table(report, style, all));
    if !report.skipped.is_empty() {
        heading(&mut out, "Not done, and why");
        push(&mut out, &skipped_table(report, style, all));
    }
    if !report.checks.is_empty() {
        heading(&mut out, "Checked on random inputs, before and after each pass");
        let mut table = Table::new(style, &[("pass", Align::Left), ("largest relative error", Align::Left)]);
        for check in &report.checks {
            let result = match (&check.max_rel, &check.skipped) {
                (Some(error), _) => number(*error),
                (None, reason) => format!("not run: {}", reason.as_deref().unwrap_or("no reason given")),
            };
            table.row([check.pass.clone(), result]);
        }
        push(&mut out, &table.render());
    }
    if let Some(measured) = &report.measured {
        heading(&mut out, &format!("Measured on {} of data", plural(measured.samples, "sample")));
        push(&mut out, &measured_table(measured, style));
    }
    if !report.files.is_empty() {
        push(&mut out, "\n");
        for file in &report.files {
            let note = if report.outputs.is_empty() { "would be" } else { "wrote" };
            push(&mut out, &format!("{note} {}  {}\n", style.bold(&file.path), bytes(file.bytes)));
        }
    }
    out
}

fn push(out: &mut String, text: &str) {
    out.write_str(text).expect("writing to a string does not fail");
}

/// `1 sample`, `2 samples`.
fn plural(n: usize, noun: &str) -> String {
    format!("{} {noun}{}", count(n as u64), if n == 1 { "" } else { "s" })
}

fn totals(report: &CompileReport, style: Style) -> String {
    let columns = [("", Align::Left), ("before", Align::Right), ("after", Align::Right), ("ratio", Align::Right)];
    let mut table = Table::new(style, &columns);
    let (a, b) = (&report.input, &report.output);
    if b.bytes > 0 {
        table.row_with_result([
            "file".to_owned(),
            bytes(a.bytes),
            bytes(b.bytes),
            ratio(a.bytes as f64, b.bytes as f64),
        ]);
    }
    let stored = |bits: u64| bytes(bits / 8);
    table.row([
        "constants in memory".to_owned(),
        stored(a.stored_bits),
        stored(b.stored_bits),
        ratio(a.stored_bits as f64, b.stored_bits as f64),
    ]);
    let rows = [
        ("parameters", a.params as u64, b.params as u64),
        ("  not zero", a.nonzero as u64, b.nonzero as u64),
        ("MACs", a.macs, b.macs),
    ];
    for (name, a, b) in rows {
        table.row([name.to_owned(), count(a), count(b), ratio(a as f64, b as f64)]);
    }
    table.row([
        "energy, estimated".to_owned(),
        energy(a.energy_pj),
        energy(b.energy_pj),
        ratio(a.energy_pj, b.energy_pj),
    ]);
    table.render()
}

/// The layers with what each weighs. Of many layers, those that weigh least are summed up, unless `all`
/// are asked for. Columns that would be empty are left out.
pub fn layer_table(layers: &[Layer], style: Style, all: bool) -> String {
    let compiled = layers.iter().any(|layer| layer.stored_bytes_before.is_some());
    let mut weights: Vec<usize> = layers.iter().map(weight).collect();
    weights.sort_unstable_by(|a, b| b.cmp(a));
    let limit = if all || layers.len() <= MAX_LAYERS + 1 { None } else { weights.get(MAX_LAYERS).copied() };
    let (large, small): (Vec<&Layer>, Vec<&Layer>) =
        layers.iter().partition(|layer| limit.is_none_or(|limit| weight(layer) > limit));
    let rest = (!small.is_empty()).then(|| sum(&small));
    let rows: Vec<&Layer> = large.into_iter().chain(&rest).collect();

    let share = |layer: &Layer| percent(layer.nonzero as f64 / layer.params as f64);
    let size = |n: Option<usize>| n.map(|n| bytes(n as u64)).unwrap_or_default();
    let nonempty = |n: u64| if n == 0 { String::new() } else { count(n) };
    let column = |title: &'static str, align: Align, rank: u8, cell: &dyn Fn(&Layer) -> String| Column {
        title,
        align,
        rank,
        cells: rows.iter().map(|row| cell(row)).collect(),
    };
    let after = if compiled { "after" } else { "bytes" };
    let mut columns = vec![
        column("layer", Align::Left, 0, &|l| l.name.clone()),
        column("op", Align::Left, 3, &|l| l.op.clone()),
        column("result", Align::Left, 7, &|l| l.shape.clone()),
        column("params", Align::Right, 2, &|l| nonempty(l.params as u64)),
        column("not zero", Align::Right, 1, &|l| if l.params == l.nonzero { String::new() } else { share(l) }),
        column("MACs", Align::Right, 6, &|l| nonempty(l.macs)),
        column("before", Align::Right, 2, &|l| size(l.stored_bytes_before)),
        column(after, Align::Right, 5, &|l| size(Some(l.stored_bytes))),
        column("in .optc", Align::Right, 1, &|l| l.coded_bytes.map(bytes).unwrap_or_default()),
        column("bits/weight", Align::Right, 4, &|l| l.bits_per_weight.map(|b| format!("{b:.2}")).unwrap_or_default()),
        // Beside what passes changed there is no room for it; the total is in the summary.
        column("energy", Align::Right, 6, &|l| if compiled { String::new() } else { energy(l.energy_pj) }),
        column("encoding", Align::Left, 3, &|l| l.encoding.clone()),
    ];
    columns.retain(|column| column.cells.iter().any(|cell| !cell.is_empty()));
    fit(columns, style).render()
}

/// A column of a table that may be too wide for the terminal. The highest rank goes first.
struct Column {
    title: &'static str,
    align: Align,
    rank: u8,
    cells: Vec<String>,
}

impl Column {
    fn width(&self) -> usize {
        let widest = self.cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(self.title.chars().count()) + 3
    }
}

/// A table within the width of the terminal: columns are left out, and then names cut in the middle, until
/// it fits. Off a terminal nothing is left out.
fn fit(mut columns: Vec<Column>, style: Style) -> Table {
    let width = style.width.map_or(usize::MAX, usize::from);
    while columns.iter().map(Column::width).sum::<usize>() > width {
        let Some(at) = (0..columns.len()).filter(|&i| columns[i].rank > 2).max_by_key(|&i| columns[i].rank) else {
            break;
        };
        columns.remove(at);
    }
    let others: usize = columns.iter().skip(1).map(Column::width).sum();
    if let Some(first) = columns.first_mut() {
        let room = width.saturating_sub(others + 3).max(MIN_NAME);
        first.cells.iter_mut().for_each(|cell| *cell = shorten(cell, room));
    }
    let titles: Vec<(&str, Align)> = columns.iter().map(|column| (column.title, column.align)).collect();
    let mut table = Table::new(Style { width: None, ..style }, &titles);
    for i in 0..columns.first().map_or(0, |column| column.cells.len()) {
        table.row(columns.iter().map(|column| column.cells[i].clone()));
    }
    table
}

/// Names are not cut below this many characters.
const MIN_NAME: usize = 12;

/// The text with its middle left out if it is longer than `room`.
fn shorten(text: &str, room: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= room {
        return text.to_owned();
    }
    let kept = room.saturating_sub(1);
    let (head, tail) = (kept / 2, kept - kept / 2);
    chars[..head].iter().chain(&['…']).chain(&chars[chars.len() - tail..]).collect()
}

/// The layers that are not listed, as one.
fn sum(layers: &[&Layer]) -> Layer {
    let mut sum = Layer { name: format!("… {} smaller layers (-v lists all)", layers.len()), ..Layer::default() };
    for layer in layers {
        sum.params += layer.params;
        sum.nonzero += layer.nonzero;
        sum.macs = sum.macs.saturating_add(layer.macs);
        sum.energy_pj += layer.energy_pj;
        sum.stored_bytes += layer.stored_bytes;
        sum.coded_bytes = add(sum.coded_bytes, layer.coded_bytes);
        sum.stored_bytes_before = add(sum.stored_bytes_before, layer.stored_bytes_before);
    }
    let bits = 8.0 * sum.coded_bytes.unwrap_or(sum.stored_bytes as u64) as f64;
    sum.bits_per_weight = (sum.params > 0).then(|| bits / sum.params as f64);
    sum
}

/// What makes a layer worth a row: the bytes it came with.
fn weight(layer: &Layer) -> usize {
    layer.stored_bytes_before.unwrap_or(0).max(layer.stored_bytes)
}

fn add<T: std::ops::Add<Output = T>>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

fn encoding_table(report: &CompileReport, style: Style) -> String {
    let coded = report.encodings.iter().any(|row| row.coded_bytes.is_some());
    let mut columns = vec![
        ("encoding", Align::Left),
        ("constants", Align::Right),
        ("elements", Align::Right),
        ("in memory", Align::Right),
    ];
    if coded {
        columns.push(("in .optc", Align::Right));
    }
    let mut table = Table::new(style, &columns);
    for row in &report.encodings {
        let mut cells = vec![
            row.encoding.clone(),
            count(row.constants as u64),
            count(row.elements as u64),
            bytes(row.stored_bytes as u64),
        ];
        cells.extend(row.coded_bytes.map(bytes));
        table.row(cells);
    }
    table.render()
}

fn pass_table(report: &CompileReport, style: Style, all: bool) -> String {
    let columns = [
        ("pass", Align::Left),
        ("effect", Align::Left),
        ("changes", Align::Right),
        ("nodes", Align::Right),
        ("constants", Align::Right),
        ("ms", Align::Right),
    ];
    let mut table = Table::new(style, &columns);
    for pass in &report.passes {
        let applied = pass.remarks.iter().filter(|r| r.kind == optc_ir::RemarkKind::Applied).count();
        let changes = match (pass.changed, applied) {
            (false, _) => "none".to_owned(),
            (true, 0) => "some".to_owned(),
            (true, n) => count(n as u64),
        };
        let name = match pass.options.as_str() {
            "" => pass.name.to_owned(),
            options => format!("{}{{{options}}}", pass.name),
        };
        table.row([
            name,
            pass.effect.clone(),
            changes,
            count(pass.nodes as u64),
            bytes(pass.stored_bytes as u64),
            format!("{:.1}", pass.ms),
        ]);
        for nested in pass.nested.iter().filter(|nested| all || nested.changes > 0) {
            let changes = format!("{} of {} runs", nested.changes, nested.runs);
            let ms = format!("{:.1}", nested.ms);
            table.row([format!("  {}", nested.name), String::new(), changes, String::new(), String::new(), ms]);
        }
    }
    if table.is_empty() { "no passes\n".to_owned() } else { table.render() }
}

fn skipped_table(report: &CompileReport, style: Style, all: bool) -> String {
    let columns = [("pass", Align::Left), ("reason", Align::Left), ("nodes", Align::Right), ("such as", Align::Left)];
    let mut table = Table::new(style, &columns);
    let shown = if all { report.skipped.len() } else { MAX_REASONS };
    for row in report.skipped.iter().take(shown) {
        let named = row.nodes.iter().filter(|name| !name.is_empty()).take(MAX_NODES);
        let named: Vec<&str> = named.map(String::as_str).collect();
        table.row([row.pass.to_owned(), row.reason.clone(), count(row.count as u64), named.join(", ")]);
    }
    let mut text = table.render();
    if let Some(more) = report.skipped.len().checked_sub(shown).filter(|&more| more > 0) {
        push(&mut text, &format!(" … {more} more reasons (-v lists all)\n"));
    }
    text
}

fn measured_table(measured: &Measured, style: Style) -> String {
    let mut text = distance_table(&measured.outputs, style);
    if let (Some(before), Some(after)) = (measured.before, measured.after) {
        let columns = [("accuracy", Align::Left), ("before", Align::Right), ("after", Align::Right)];
        let mut table = Table::new(style, &columns);
        let share = |x: f64| format!("{:.2} %", 100.0 * x);
        table.row(["top-1".to_owned(), share(before.top1), share(after.top1)]);
        table.row(["top-5".to_owned(), share(before.top5), share(after.top5)]);
        push(&mut text, &format!("\n{}", table.render()));
    }
    text
}

/// Distances between two models, an output a row.
pub(crate) fn distance_table(outputs: &[OutputDistance], style: Style) -> String {
    let columns = [
        ("output", Align::Left),
        ("largest |a−b|", Align::Right),
        ("relative", Align::Right),
        ("cosine", Align::Right),
        ("top-1 agreement", Align::Right),
    ];
    let mut table = Table::new(style, &columns);
    for output in outputs {
        let agreement = output.top1_agreement.map_or("–".to_owned(), |share| format!("{:.2} %", 100.0 * share));
        let (max_abs, max_rel) = (number(output.max_abs), number(output.max_rel));
        table.row([output.name.clone(), max_abs, max_rel, format!("{:.7}", output.cosine), agreement]);
    }
    let mut text = table.render();
    for output in outputs.iter().filter(|output| output.mismatches > 0) {
        let warning = "elements are NaN or infinite in one model and not in the other";
        push(&mut text, &format!("{}: {} {warning}\n", output.name, output.mismatches));
    }
    text
}

/// A small number with three digits.
fn number(x: f64) -> String {
    match x {
        0.0 => "0".to_owned(),
        _ if !x.is_finite() => "∞".to_owned(),
        _ if (1e-3..1e4).contains(&x.abs()) => format!("{x:.4}"),
        _ => format!("{x:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let seen: Vec<String> = [0, 999, 1000, 26_454, 999_499, 999_500, 14_245_701, 2_000_000_000].map(bytes).into();
        assert_eq!(seen, ["0 B", "999 B", "1.00 kB", "26.5 kB", "999 kB", "1.00 MB", "14.2 MB", "2.00 GB"]);
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 12, 123, 1234, 3_504_872].map(count), ["0", "12", "123", "1,234", "3,504,872"]);
    }

    #[test]
    fn small_layers_are_summed_up_unless_all_are_asked_for() {
        let layers: Vec<Layer> = (0..40usize)
            .map(|i| Layer { name: format!("l{i}"), params: i, nonzero: i, stored_bytes: 4 * i, ..Layer::default() })
            .collect();
        let text = layer_table(&layers, Style::default(), false);
        assert!(text.contains("l39") && !text.contains(" l3 ") && text.contains("16 smaller layers"), "{text}");
        assert_eq!(text.lines().count(), 2 + 24 + 1);
        assert_eq!(layer_table(&layers, Style::default(), true).lines().count(), 2 + 40);
    }

    #[test]
    fn a_narrow_terminal_gets_fewer_columns_and_shorter_names() {
        let name = "/model/features/12/block/depthwise/Conv".to_owned();
        let shape = "f32[1, 128, 56, 56]".to_owned();
        let layer =
            Layer { name, op: "conv".into(), shape, params: 4096, nonzero: 4096, macs: 1 << 24, ..Layer::default() };
        let narrow = layer_table(std::slice::from_ref(&layer), Style { color: false, width: Some(40) }, true);
        assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
        assert!(narrow.contains('…') && narrow.contains("4,096"), "{narrow}");
        let wide = layer_table(&[layer], Style { color: false, width: Some(160) }, true);
        assert!(wide.contains("f32[1, 128, 56, 56]") && wide.contains("16,777,216"), "{wide}");
    }
}
