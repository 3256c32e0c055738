//! `optc passes` and `optc ops`: what there is.

use optc_ir::op::{Binary, OPS, Op, ReduceKind, Unary, Variadic};
use optc_passes::options::Options;
use optc_passes::pipeline::PRESETS;
use optc_passes::registry::{PASSES, PassInfo};
use serde::Serialize;

use super::args::{OpsArgs, PassesArgs};
use super::session::{self, Talk};
use crate::error::Error;
use crate::report::table::{Align, Table};
use crate::report::to_json;

#[derive(Serialize)]
struct PassRow {
    name: &'static str,
    effect: String,
    summary: &'static str,
    options: Vec<OptionRow>,
}

#[derive(Serialize)]
struct OptionRow {
    key: &'static str,
    default: &'static str,
    help: &'static str,
}

/// The pass as made without options.
fn row(info: &PassInfo) -> PassRow {
    let pass = (info.from_options)(&mut Options::none(info.name)).expect("every option of a pass has a default");
    let option = |o: &optc_passes::registry::OptionInfo| OptionRow { key: o.key, default: o.default, help: o.help };
    PassRow {
        name: info.name,
        effect: pass.effect().to_string(),
        summary: info.summary,
        options: info.options.iter().map(option).collect(),
    }
}

pub(super) fn passes(args: &PassesArgs) -> Result<(), Error> {
    let talk = Talk::new(&args.talk);
    let rows: Vec<PassRow> = PASSES.iter().map(row).collect();
    if talk.json {
        return session::print(to_json(&rows).as_bytes());
    }
    if args.markdown {
        return session::print(markdown(&rows).as_bytes());
    }
    let mut text = String::new();
    for row in &rows {
        text += &format!("{}  ({})\n    {}\n", talk.style.bold(row.name), row.effect, row.summary);
        for option in &row.options {
            let default = if option.default.is_empty() { String::new() } else { format!("={}", option.default) };
            text += &format!("      {}{default}  {}\n", option.key, option.help);
        }
    }
    text += "\nPipelines by name, for -O and -p:\n";
    let mut table = Table::new(talk.style, &[("name", Align::Left), ("for", Align::Left), ("passes", Align::Left)]);
    for preset in PRESETS {
        table.row([preset.name.to_owned(), preset.summary.to_owned(), (preset.build)().to_string()]);
    }
    text += &table.render();
    session::print(text.as_bytes())
}

/// The table of the README.
fn markdown(rows: &[PassRow]) -> String {
    let mut text = "| pass | effect | what it does |\n|---|---|---|\n".to_owned();
    for row in rows {
        text += &format!("| `{}` | {} | {} |\n", row.name, row.effect, row.summary);
    }
    text
}

#[derive(Serialize)]
struct OpRow {
    name: String,
    operands: Vec<String>,
    summary: String,
}

pub(super) fn ops(args: &OpsArgs) -> Result<(), Error> {
    let talk = Talk::new(&args.talk);
    let mut rows: Vec<OpRow> = Vec::new();
    let mut add = |name: &str, op: Option<Op>, summary: &str| {
        let operands = op.as_ref().map(operands).unwrap_or_default();
        rows.push(OpRow { name: name.to_owned(), operands, summary: summary.to_owned() });
    };
    let made = |name: &str| Op::from_fields(name, &[]).ok().flatten();
    for unary in Unary::ALL {
        add(unary.word(), Some(Op::Unary(*unary)), "elementwise");
    }
    for binary in Binary::ALL {
        add(binary.word(), Some(Op::Binary(*binary)), "elementwise, broadcast");
    }
    for variadic in Variadic::ALL {
        add(variadic.word(), Some(Op::Variadic(*variadic)), "elementwise over any number of operands, broadcast");
    }
    for kind in ReduceKind::ALL {
        add(kind.word(), made(kind.word()), "reduction over axes");
    }
    for (name, summary) in OPS {
        add(name, made(name), summary);
    }
    if talk.json {
        return session::print(to_json(&rows).as_bytes());
    }
    let mut table =
        Table::new(talk.style, &[("op", Align::Left), ("operands", Align::Left), ("what it is", Align::Left)]);
    for row in &rows {
        table.row([row.name.clone(), row.operands.join(", "), row.summary.clone()]);
    }
    session::print(table.render().as_bytes())
}

/// Names of operands; those that may be missing in brackets, one that may be repeated with dots.
fn operands(op: &Op) -> Vec<String> {
    let arity = op.arity();
    let last = arity.names.len().saturating_sub(1);
    let name = |(i, name): (usize, &&str)| match name {
        _ if arity.variadic && i == last => format!("{name}…"),
        _ if i >= arity.required => format!("[{name}]"),
        _ => (*name).to_owned(),
    };
    arity.names.iter().enumerate().map(name).collect()
}
