//! Figures of the papers for LeNet-300-100, as SVG.

use std::error::Error;
use std::ops::Range;

use optc::train::{self, StageRow};
use plotters::prelude::*;

use super::Session;

/// What a line shows, and its points: sizes or shares, and test errors in percent there.
type Curve = (&'static str, Vec<(f64, f64)>);

/// Shares of weights that are left.
const DENSITIES: [f64; 6] = [0.3, 0.12, 0.08, 0.05, 0.03, 0.015];
/// Values a layer shares.
const VALUES: [usize; 5] = [64, 16, 8, 4, 2];

/// The largest test error drawn, in percent.
const WORST: f64 = 6.0;

const DENSE: &str = "lenet-300-100";

impl Session {
    /// What the last stage of a recipe given as text makes of a model.
    fn point(&self, name: &str, from: &str, stages: &str) -> Result<StageRow, Box<dyn Error>> {
        let text = format!("about = 'a point of a curve'\n[data]\nscale = '1/255'\n{stages}");
        let history = self.run(&train::parse(&text, name, name)?, Some(from))?;
        Ok(history.stages.last().ok_or("a recipe has stages")?.clone())
    }
}

/// Test error over size: pruning and sharing together reach what neither does alone (Han et al. 2016, figure 6).
pub(super) fn size(session: &Session) -> Result<(), Box<dyn Error>> {
    let prune = |density: f64| {
        let sparsity = 1.0 - density;
        format!(
            "[[stage]]\ndo = 'prune'\nsparsity = {sparsity}\nscope = 'global'\nepochs = 6\nlr = 1.5e-3\nshift = 1\n"
        )
    };
    let share = |k: usize| {
        format!(
            "[[stage]]\ndo = 'cluster'\nk = {k}\ninit = 'exact'\n\
             [[stage]]\ndo = 'fine-tune'\nepochs = 1\nlr = 2e-4\nshift = 1\n"
        )
    };
    let point = |name: String, stages: String| -> Result<(f64, f64), Box<dyn Error>> {
        let row = session.point(&name, DENSE, &stages)?;
        Ok((row.optc_bytes as f64 / 1000.0, row.error))
    };
    let (mut pruned, mut shared, mut both) = (Vec::new(), Vec::new(), Vec::new());
    for density in DENSITIES {
        pruned.push(point(format!("curve-pruned-{density}"), prune(density))?);
        both.push(point(format!("curve-both-{density}"), prune(density) + &share(16))?);
    }
    for k in VALUES {
        shared.push(point(format!("curve-shared-{k}"), share(k))?);
    }
    let curves = [("pruned", pruned), ("shared", shared), ("pruned and shared", both)];
    draw(session, "error_over_size.svg", ("size of the .optc, kB", 4.0..1100.0), &curves)
}

/// Test error over the weights that are left: L1 is better right after pruning, L2 after retraining, and pruning
/// little by little is best (Han et al. 2015, figure 5).
pub(super) fn regularisation(session: &Session) -> Result<(), Box<dyn Error>> {
    let training =
        |regulariser: &str, epochs: usize| format!("epochs = {epochs}\nlr = 1e-3\nshift = 1\n{regulariser}\n");
    let mut curves: Vec<Curve> = Vec::new();
    for (name, regulariser, cut, retrained) in [
        ("l1", "l1 = 2e-5", "L1, cut", "L1, cut and retrained"),
        ("l2", "l2 = 1e-4", "L2, cut", "L2, cut and retrained"),
    ] {
        let dense = format!("curve-{name}");
        session.point(&dense, DENSE, &format!("[[stage]]\ndo = 'train'\n{}", training(regulariser, 4)))?;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for density in DENSITIES {
            let sparsity = 1.0 - density;
            let stage =
                format!("[[stage]]\ndo = 'passes'\npasses = 'prune-magnitude{{sparsity={sparsity},scope=global}}'\n");
            before
                .push((100.0 * density, session.point(&format!("curve-{name}-cut-{density}"), &dense, &stage)?.error));
            let stages = format!("{stage}[[stage]]\ndo = 'retrain'\n{}", training(regulariser, 3));
            after.push((
                100.0 * density,
                session.point(&format!("curve-{name}-retrained-{density}"), &dense, &stages)?.error,
            ));
        }
        curves.extend([(cut, before), (retrained, after)]);
    }
    let mut little = Vec::new();
    for density in DENSITIES {
        let sparsity = 1.0 - density;
        let stage =
            format!("[[stage]]\ndo = 'prune'\nsparsity = {sparsity}\nscope = 'global'\n{}", training("l2 = 1e-4", 6));
        little.push((100.0 * density, session.point(&format!("curve-l2-little-{density}"), "curve-l2", &stage)?.error));
    }
    curves.push(("L2, little by little", little));
    draw(session, "error_over_weights.svg", ("weights left, %", 1.0..40.0), &curves)
}

/// Draws curves over a logarithmic axis of this name and extent.
fn draw(
    session: &Session,
    file: &str,
    (name, extent): (&str, Range<f64>),
    curves: &[Curve],
) -> Result<(), Box<dyn Error>> {
    let path = session.out.join(file);
    let area = SVGBackend::new(&path, (900, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("LeNet-300-100 on MNIST", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(extent.log_scale(), 1.0..WORST)?;
    chart.configure_mesh().x_desc(name).y_desc("test error, %").draw()?;
    for ((name, points), color) in curves.iter().zip([RED, BLUE, BLACK, MAGENTA, GREEN]) {
        let mut points: Vec<(f64, f64)> = points.iter().map(|&(x, error)| (x, error.min(WORST))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        chart
            .draw_series(LineSeries::new(points, &color).point_size(3))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    area.present()?;
    Ok(())
}
